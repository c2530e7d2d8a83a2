"""What graphs are built for: a target has its own lowering, and a backend of the runtime that runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # light to import: options take their names from here
    from .graphs.lowering.lowering import Lowering
    from .model.quantize import Calibrated, Quantizers
    from .model.spec import SpeechModelSpec

FP32_ALONE = ("fp32",)


def _of_graphs(precision: str, calibrated: Calibrated, block: int) -> Quantizers:
    from .model.quantize import of_graphs

    return of_graphs(calibrated, block)


@dataclass(frozen=True)
class Target:
    """One row of the table."""

    lowering: Callable[[str, SpeechModelSpec], Lowering]  # for graphs of a model, in one of the precisions
    precisions: tuple[str, ...] = FP32_ALONE  # that its graphs may compute in, the default one first
    quantizers: Callable[[str, Calibrated, int], Quantizers] = _of_graphs
    """Of matrices for graphs in a precision: with what clips found, and the block of int4."""

    rounds_rows: bool = True  # to 8 bits, where they meet a matrix in fewer bits

    def precision(self, asked: str | None) -> str:
        """What its graphs compute in, where a build is asked for a precision or for none."""
        return asked if asked in self.precisions else self.precisions[0]


def _onnxruntime(precision: str, model: SpeechModelSpec) -> Lowering:
    from .graphs.lowering.onnxruntime import OnnxRuntimeLowering

    return OnnxRuntimeLowering()


def _onnxruntime_cuda(precision: str, model: SpeechModelSpec) -> Lowering:
    from .checkpoint.precision import BY_NAME
    from .graphs.lowering.onnxruntime_cuda import OnnxRuntimeCudaLowering

    longest = model.decoder.max_positions  # no audio is longer than a prompt
    return OnnxRuntimeCudaLowering(BY_NAME[precision], longest, longest)


def _of_cuda_graphs(precision: str, calibrated: Calibrated, block: int) -> Quantizers:
    from .model.quantize import of_cuda_graphs

    return of_cuda_graphs(calibrated, block, precision)


def _of_openvino_graphs(precision: str, calibrated: Calibrated, block: int) -> Quantizers:
    from .model.quantize import of_openvino_graphs

    return of_openvino_graphs(calibrated, block)


def _openvino(precision: str, model: SpeechModelSpec) -> Lowering:
    from .graphs.lowering.openvino import OpenVinoLowering

    longest = model.decoder.max_positions
    return OpenVinoLowering(longest, longest)


TARGETS: dict[str, Target] = {
    "onnxruntime": Target(_onnxruntime),
    "onnxruntime-cuda": Target(
        _onnxruntime_cuda, ("bf16", "fp16", "fp32"), _of_cuda_graphs, rounds_rows=False
    ),
    "openvino": Target(_openvino, quantizers=_of_openvino_graphs),
}
"""By name. Engines have lowerings in `engines/`: graphs for them are thrown away."""
