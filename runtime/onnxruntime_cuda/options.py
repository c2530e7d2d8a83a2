"""How ONNX Runtime's CUDA provider runs an artifact; quick to import."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ...profiles.errors import RequestError
from ...profiles.faults import flag_fault, shown
from ..backend_options import BackendOptions

CPU, CUDA = "cpu", "cuda"
DEVICE = re.compile(r"cuda(?::(0|[1-9][0-9]?))?|cpu")


@dataclass(frozen=True)
class OnnxRuntimeCudaOptions(BackendOptions):
    """The options of the backend onnxruntime-cuda. Raises RequestError for values that are none."""

    device: str = CUDA
    """`cuda`, `cuda:N`, or `cpu`: the same graphs on the CPU provider, to compare their numbers."""
    strict: bool = False  # refuse graphs of which a node falls back to the CPU
    cuda_graph: bool = field(default=False, metadata={"flag": "--cuda-graph"})
    """Capture steps of equal shapes and replay them. Never tried on a device."""

    def __post_init__(self) -> None:
        if faults := list(self.faults()):
            raise RequestError("; ".join(faults))

    def faults(self) -> Iterator[str]:
        """What is wrong with the values."""
        if not (isinstance(self.device, str) and DEVICE.fullmatch(self.device)):
            yield f"device is {shown(self.device)}: give cuda, cuda:N for the GPU of that number, or cpu"
        yield from flag_fault("strict", self.strict)
        yield from flag_fault("cuda_graph", self.cuda_graph)
        if self.device == CPU and (self.strict is True or self.cuda_graph is True):
            name = "strict" if self.strict is True else "cuda_graph"
            yield f"{name} beside device cpu: it is about a GPU; leave it out, or give device cuda"

    @property
    def kind(self) -> str:
        """The device without its number, as ONNX Runtime names it."""
        return CPU if self.device == CPU else CUDA

    @property
    def number(self) -> int:
        """Which device of its kind."""
        return int(self.device.partition(":")[2] or 0)

    def recorded(self) -> dict[str, Any]:
        """Those that an answer depends on, as result files keep them."""
        return {"device": self.device}
