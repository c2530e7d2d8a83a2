"""What the CPU of this machine can do: products and reading, measured with the runtime that does the work."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from ..model.formats import INT4_BLOCKS
from .roofline import Ceilings

SECONDS = 0.6  # of each measurement; the fastest run counts, as other work on the machine only slows
LEAST_RUNS = 3
ROWS, WIDTH = 512, 1024  # of a product: many rows of a prefill, the width of a small model
READ_ROWS, READ_COLUMNS = 4096, 8192  # of a matrix of 128 MiB, larger than the caches of most CPUs


def measured_ceilings(threads: int, quantize: str | None, int4_block: int = INT4_BLOCKS[0]) -> Ceilings:
    """Ceilings of ONNX Runtime's CPU provider, in about 2 seconds.

    Args:
        threads: of a run; 0 for one per core.
        quantize: the format of matrices, as `build --quantize` takes it, or None for fp32.
        int4_block: inputs that share a scale in int4.
    """
    plain = _session(_plain_model(), threads)
    attention = _product_rate(plain, {"w": _numbers(WIDTH, WIDTH)})
    linear = (
        attention if quantize is None else _product_rate(_session(_MODELS[quantize](int4_block), threads), {})
    )
    row, matrix = _numbers(1, READ_ROWS), _numbers(READ_ROWS, READ_COLUMNS)
    return Ceilings(linear, attention, matrix.nbytes / _fastest(plain, {"x": row, "w": matrix}))


def memory_bytes() -> float:
    """The memory of this machine."""
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _product_rate(session: Any, others: dict[str, Any]) -> float:
    """FLOPs a second of a product of ROWS rows."""
    return 2.0 * ROWS * WIDTH * WIDTH / _fastest(session, {"x": _numbers(ROWS, WIDTH), **others})


def _fastest(session: Any, inputs: dict[str, Any]) -> float:
    """Seconds of the fastest run."""
    session.run(inputs)
    found, end = list[float](), time.perf_counter() + SECONDS
    while len(found) < LEAST_RUNS or time.perf_counter() < end:
        begin = time.perf_counter()
        session.run(inputs)
        found.append(time.perf_counter() - begin)
    return min(found)


def _numbers(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.full(shape, 0.5, np.float32)


def _session(model: Any, threads: int) -> Any:
    from ...runtime.onnxruntime.session import OnnxRuntimeSession

    content = model.SerializeToString()
    return OnnxRuntimeSession(Path("ceiling.onnx"), {}, graph=content, threads=threads, prepack=True)


def _plain_model() -> Any:
    from onnx import helper

    return _model([helper.make_node("MatMul", ["x", "w"], ["y"])], ("x", "w"))


def _int8_model(_: int) -> Any:
    """The product of rows of uint8 around 128, as the graphs of int8 artifacts have it."""
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.ones((WIDTH, WIDTH), np.int8), "w")
    scales = numpy_helper.from_array(np.ones(WIDTH, np.float32), "w_scales")
    one = numpy_helper.from_array(np.array(1, np.float32), "x_scale")
    middle = numpy_helper.from_array(np.array(128, np.uint8), "middle")
    nodes = [
        helper.make_node("Cast", ["x"], ["x8"], to=TensorProto.UINT8),
        helper.make_node(
            "MatMulIntegerToFloat",
            ["x8", "w", "x_scale", "w_scales", "middle"],
            ["y"],
            domain="com.microsoft",
        ),
    ]
    return _model(nodes, ("x",), [weights, scales, one, middle])


def _int4_model(block: int) -> Any:
    from onnx import helper, numpy_helper

    blocks = WIDTH // block
    parts = {
        "w": np.ones((WIDTH, blocks, block // 2), np.uint8),
        "scales": np.ones((WIDTH, blocks), np.float32),
        "zeros": np.ones((WIDTH, blocks // 2), np.uint8),
    }
    node = helper.make_node(
        "MatMulNBits",
        ["x", *parts],
        ["y"],
        domain="com.microsoft",
        K=WIDTH,
        N=WIDTH,
        bits=4,
        block_size=block,
        accuracy_level=4,
    )
    return _model([node], ("x",), [numpy_helper.from_array(array, name) for name, array in parts.items()])


def _model(nodes: list[Any], inputs: tuple[str, ...], initializers: Any = ()) -> Any:
    from onnx import TensorProto, helper

    from ...plugins.body import IR_VERSION, OPSET

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (None, None)) for name in inputs]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, (None, None))
    graph = helper.make_graph(nodes, "ceiling", values, [output], initializers)
    domains = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=IR_VERSION)


_MODELS = {"int8": _int8_model, "int4": _int4_model}
