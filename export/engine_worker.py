"""The process that builds one engine: JSON request on stdin, facts on stdout, the log on stderr."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import tensorrt_rtx as trt

from ..profiles.errors import DependencyError, EngineError

Request = Mapping[str, Any]


class Log(trt.ILogger):  # type: ignore[misc]
    """Every message on stderr, and the last error at hand."""

    def __init__(self) -> None:
        super().__init__()
        self.last_error = ""

    def log(self, severity: Any, message: str) -> None:
        """Called by the library."""
        name = str(severity).rpartition(".")[2]
        if name in ("ERROR", "INTERNAL_ERROR"):
            self.last_error = message
        print(f"{name} {message}", file=sys.stderr, flush=True)


def main() -> int:
    """Build what stdin asks for."""
    request, log = json.load(sys.stdin), Log()
    try:
        build(request, log)
    except (EngineError, DependencyError) as error:
        print(f"FAULT {error}", file=sys.stderr)
        return 1
    print(json.dumps({"product": trt.__name__, "version": trt.__version__}))
    return 0


def build(request: Request, log: Log) -> None:
    """Check the graph, parse it, check the network, stream the plan to its file."""
    check_functions(Path(request["graph"]))
    if request["plugins"]:
        from ..plugins.tensorrt_library import load_plugins

        load_plugins(Path(request["plugins"]), trt)
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parse(network, Path(request["graph"]), log)
    check_network(network, request["plugin_layers"])
    config = configure(builder, request)
    writer = PlanWriter(Path(request["plan"]))
    try:
        built = builder.build_serialized_network_to_stream(network, config, writer)
    finally:
        writer.close()
    if not built:
        Path(request["plan"]).unlink()
        raise EngineError(f"no plan came out: {log.last_error or 'no reason was given'}")


def check_functions(graph: Path) -> None:
    """Refuse function bodies: one wins over the plugin of its name without a word."""
    functions = onnx.load(str(graph), load_external_data=False).functions
    if functions:
        names = ", ".join(sorted({function.name for function in functions}))
        raise EngineError(
            f"{graph.name} holds function bodies ({names}), which would replace the plugins of these names; "
            "export it with the TensorRT lowering"
        )


def parse(network: Any, graph: Path, log: Log) -> None:
    """Read the graph with its weights beside it."""
    parser = trt.OnnxParser(network, log)
    if parser.parse_from_file(str(graph)):
        return
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    raise EngineError(
        "; ".join(f"node {error.node_name() or '?'}: {error.desc()}" for error in errors) or "no parse"
    )


def check_network(network: Any, plugin_layers: Mapping[str, int]) -> None:
    """Every reduction is a plugin layer, and every input is read."""
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    found = Counter(
        layer.name.rpartition("/")[2].rstrip("_0123456789")
        for layer in layers
        if layer.type == trt.LayerType.PLUGIN_V3
    )
    if dict(found) != dict(plugin_layers):
        raise EngineError(
            f"the network has the plugin layers {dict(found)}, the graph asks for {dict(plugin_layers)}"
        )
    read = {
        layer.get_input(i).name for layer in layers for i in range(layer.num_inputs) if layer.get_input(i)
    }
    inputs = [network.get_input(i).name for i in range(network.num_inputs)]
    if unread := [name for name in inputs if name not in read]:
        raise EngineError(f"the network reads {', '.join(unread)} nowhere: a part of the graph was lost")


def configure(builder: Any, request: Request) -> Any:
    """Target, shapes, and the plugin library inside the plan."""
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{request['sm']}"), 0)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if request["plugins"]:
        config.plugins_to_serialize = [request["plugins"]]
    profile = builder.create_optimization_profile()
    for name, shapes in request["profile"]["shapes"].items():
        profile.set_shape(name, *shapes)
    for name, values in request["profile"]["values"].items():
        profile.set_shape_input(name, *values)
    config.add_optimization_profile(profile)
    return config


class PlanWriter(trt.IStreamWriter):  # type: ignore[misc]
    """Writes a plan as it is made, so that it is never held whole beside the weights."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._stream = path.open("wb")

    def write(self, data: Any) -> int:
        """Called by the library."""
        self._stream.write(data)
        return len(data)

    def close(self) -> None:
        """End the file."""
        self._stream.close()


if __name__ == "__main__":
    sys.exit(main())
