"""The process that builds one engine: request on stdin, progress and facts on stdout, the log on stderr.

Its argument is the id of the process that started it, with which it ends. What it imports shares the heap of
the library: an extension that allocates at random, as hash maps of Rust do, makes reproducible builds differ.
"""

from __future__ import annotations

import ctypes
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import onnx

from ...plugins.end_with_parent import end_with_parent
from ...profiles.errors import DependencyError, EngineError
from ...runtime.environment import peak_resident_bytes
from ...runtime.tensorrt.api import NOT_TOLD, logger
from .messages import EngineRequest, Outcome, Step
from .network_checks import check_network

RTX = "tensorrt_rtx"
ANSWERS = sys.stdout
LOCK_CURRENT, LOCK_FUTURE = 1, 2


def main() -> int:
    """Build what stdin asks for."""
    end_with_parent(int(sys.argv[1]))
    sys.stdout = sys.stderr  # what libraries print belongs to the log
    request = EngineRequest.from_json(sys.stdin.read())
    if request.product == RTX:
        os.environ["POLYGRAPHY_USE_TENSORRT_RTX"] = "1"  # before Polygraphy is imported
    trt = import_module(request.product)
    from polygraphy.exception import PolygraphyException

    try:
        build(request, trt)
    except (EngineError, DependencyError, PolygraphyException) as error:
        print(f"FAULT {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    tell(Outcome(trt.__version__, peak_resident_bytes()))
    return 0


def lock_memory() -> None:
    """No thread may wait for a page from the disk, or another one goes on in its place.

    Raises:
        EngineError: the system does not allow it.
    """
    if ctypes.CDLL(None, use_errno=True).mlockall(LOCK_CURRENT | LOCK_FUTURE):
        reason = os.strerror(ctypes.get_errno())
        raise EngineError(f"reproducible builds lock their memory ({reason}): raise the limit, `ulimit -l`")


def tell(answer: Step | Outcome) -> None:
    """One line to the process that waits."""
    print(answer.to_json(), file=ANSWERS, flush=True)


def build(request: EngineRequest, trt: Any) -> None:
    """Check the graph, parse it, check the network, stream the plan to its file."""
    if request.reproducible:
        lock_memory()
    check_functions(request.graph)
    if request.plugins:
        from ...plugins.tensorrt_library import load_plugins, provide_parser_library

        provide_parser_library()
        load_plugins(request.plugins, trt)
    log = logger(trt, say)
    builder = trt.Builder(log)
    network = builder.create_network(strongly_typed(trt))
    parse(network, request.graph, log, trt)
    check_network(network, trt, request.expected)
    network.name = request.name
    config = configure(builder, network, request)
    config.progress_monitor = monitor(trt)
    write(builder, network, config, request.plan, log, trt)


def check_functions(graph: Path) -> None:
    """Refuse function bodies: one wins over the plugin of its name without a word."""
    functions = onnx.load(str(graph), load_external_data=False).functions
    if functions:
        names = ", ".join(sorted({function.name for function in functions}))
        raise EngineError(
            f"{graph.name} holds function bodies ({names}), which would replace the plugins of these names; "
            "export it with the TensorRT lowering"
        )


def strongly_typed(trt: Any) -> int:
    """Network flags: types as the graph has them. Where the flag is gone, there is nothing else."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def parse(network: Any, graph: Path, log: Any, trt: Any) -> None:
    """Read the graph with its weights beside it."""
    parser = trt.OnnxParser(network, log)
    if parser.parse_from_file(str(graph)):
        return
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    raise EngineError(
        "; ".join(f"node {error.node_name() or '?'}: {error.desc()}" for error in errors) or "no parse"
    )


def configure(builder: Any, network: Any, request: EngineRequest) -> Any:
    """Target and shapes. Full TensorRT builds for the GPU that it runs on."""
    from polygraphy.backend.tensorrt_rtx import CreateConfigRTX
    from polygraphy.backend.trt import CreateConfig, Profile

    profile = Profile()
    for name, (least, usual, largest) in request.profile.shapes.items():
        profile.add(name, min=least, opt=usual, max=largest)
    if request.product == RTX:
        target = divmod(request.sm, 10)
        return CreateConfigRTX(compute_capabilities=[target], profiles=[profile])(builder, network)
    return CreateConfig(profiles=[profile])(builder, network)


def write(builder: Any, network: Any, config: Any, plan: Path, log: Any, trt: Any) -> None:
    """Build, and write the plan as it is made, so that it is never held whole beside the weights."""

    class Writer(trt.IStreamWriter):  # type: ignore[misc]
        def write(self, data: Any) -> int:
            stream.write(data)
            return len(data)

    with plan.open("wb") as stream:
        built = builder.build_serialized_network_to_stream(network, config, Writer())
    if not built:
        plan.unlink()
        raise EngineError(f"no plan came out: {log.last_error or NOT_TOLD}")


def say(severity: str, message: str) -> None:
    """One message of the library into the log."""
    print(f"{severity} {message}", file=sys.stderr, flush=True)


def monitor(trt: Any) -> Any:
    """Tells how far the library is."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.steps: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str, steps: int) -> None:
            self.steps[phase] = steps

        def step_complete(self, phase: str, step: int) -> bool:
            tell(Step(phase, step + 1, self.steps[phase]))
            return True

        def phase_finish(self, phase: str) -> None:
            self.steps.pop(phase, None)

    return Monitor()


if __name__ == "__main__":
    sys.exit(main())
