"""One graph compiled by OpenVINO: from its file, with what decides on rows kept in float32."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from ...profiles.errors import ArtifactError, DependencyError, RequestError
from ..onnxruntime.session import one_line
from .options import OpenVinoOptions

DEVICE = "CPU"
NATIVE = "OPTIMIZATION_CAPABILITIES"  # property of a device: the formats that it has products of
TYPES = {"bf16": "bf16", "fp32": "f32"}  # our precisions -> those of OpenVINO
WIDE = ("f32", "f64")
KEPT_SHAPES = 512
"""Products of each kind that are kept with their shapes: more than one prompt needs, and some 0.3 GB at most.
By default OpenVINO keeps 5000, so a server that hears audio of ever new lengths would take gigabytes."""


@cache
def library() -> Any:
    """The module, which is imported when the first artifact is loaded.

    Raises:
        DependencyError: it is missing.
    """
    try:
        import openvino
    except ImportError as error:
        raise DependencyError(
            'the backend openvino needs openvino; install it with: pip install "fastadasp-export[openvino]"'
        ) from error
    return openvino


@cache
def core() -> Any:
    """OpenVINO's own state, one for the process."""
    return library().Core()


def check_precision(options: OpenVinoOptions) -> None:
    """Refuse a format that this CPU would only emulate.

    Raises:
        DependencyError: OpenVINO is missing.
        RequestError: the CPU has no products of bf16.
    """
    native = core().get_property(DEVICE, NATIVE)
    if options.precision.upper() not in native:
        raise RequestError(
            f"precision {options.precision}: this CPU has no products of it (OpenVINO names "
            f"{', '.join(native)}); give precision fp32 (--precision fp32), or use the backend onnxruntime"
        )


def compiled(path: Path, options: OpenVinoOptions) -> Any:
    """The graph of a file, whose weights are read from the files beside it.

    Raises:
        ArtifactError: OpenVINO does not take it.
    """
    try:
        model = core().read_model(path)
        model.validate_nodes_and_infer_types()
        if options.precision != "fp32":
            named = model.get_results()
            model.add_outputs(list(_decisions(model)))
            model = library().Model(_in_order(model, named), model.get_parameters(), path.stem)
        return core().compile_model(model, DEVICE, _settings(options))
    except RuntimeError as error:
        raise ArtifactError(f"{path}: openvino cannot load it: {one_line(error)}") from error


def _decisions(model: Any) -> Iterator[Any]:
    """Integers and truth values that numbers are made into: which rows are chosen, how many are left.

    What leads from the last product to an output of the model OpenVINO leaves in float32. So these become
    outputs that nobody reads: otherwise scores would be rounded to bf16 before they are compared, and even
    a random method would choose other rows than with another backend.
    """
    for op in model.get_ordered_ops():
        from_numbers = any(each.get_element_type().get_type_name() in WIDE for each in op.inputs())
        if from_numbers and op.get_type_name() not in ("ShapeOf", "Result"):
            yield from (it for it in op.outputs() if it.get_element_type().get_type_name() not in WIDE)


def _in_order(model: Any, named: list[Any]) -> list[Any]:
    """The results of a model: the named ones as they become known, decisions once one of these needs them.

    OpenVINO computes results in their order. A decision that is put off until all others are there would be
    kept all that time, in memory that scores of attention have left and that those of later layers ask for.
    """
    known = {op.get_name(): i for i, op in enumerate(model.get_ordered_ops())}
    names = {result.get_name() for result in named}
    decided: dict[str, list[Any]] = {}
    for result in model.get_results():
        if result.get_name() not in names:
            decided.setdefault(_source(result), []).append(result)
    found, seen = [], set[str]()
    for result in sorted(named, key=lambda result: known[_source(result)]):
        found.append(result)
        for name in _needed(result, seen):
            found += decided.pop(name, [])
    return [*found, *(result for rest in decided.values() for result in rest)]


def _source(result: Any) -> str:
    name: str = result.input_value(0).get_node().get_name()
    return name


def _needed(result: Any, seen: set[str]) -> Iterator[str]:
    """Names of what leads to a result and was not `seen` before."""
    todo = [result]
    while todo:
        op = todo.pop()
        if (name := op.get_name()) not in seen:
            seen.add(name)
            todo += [value.get_node() for value in op.input_values()]
            yield name


def _settings(options: OpenVinoOptions) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": TYPES[options.precision],
        "NUM_STREAMS": 1,  # runs of several requests take turns, each with all threads
        "CPU_RUNTIME_CACHE_CAPACITY": KEPT_SHAPES,
        "ENABLE_CPU_PINNING": False,  # the threads of ONNX Runtime run beside them
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,  # rows keep their numbers beside matrices in fewer bits
    }
    return settings | ({"INFERENCE_NUM_THREADS": options.threads} if options.threads else {})
