"""What graphs are built for: a target has its own lowering, and a backend of the runtime that runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # light to import: options take their names from here
    from .graphs.lowering.lowering import Lowering
    from .model.spec import SpeechModelSpec

FP32_ALONE = ("fp32",)


@dataclass(frozen=True)
class Target:
    """One row of the table."""

    lowering: Callable[[str, SpeechModelSpec], Lowering]  # for graphs of a model, in one of the precisions
    precisions: tuple[str, ...] = FP32_ALONE  # that its graphs may compute in, the default one first
    takes_quantized: bool = True  # whether it has products with matrices in fewer bits

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


TARGETS: dict[str, Target] = {
    "onnxruntime": Target(_onnxruntime),
    "onnxruntime-cuda": Target(_onnxruntime_cuda, ("bf16", "fp16", "fp32"), takes_quantized=False),
}
"""By name. Engines have lowerings in `engines/`: graphs for them are thrown away."""
