"""How OpenVINO runs an artifact; quick to import."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ...profiles.faults import flag_fault, shown
from ..backend_options import CpuOptions

PRECISIONS = ("bf16", "fp32")


@dataclass(frozen=True)
class OpenVinoOptions(CpuOptions):
    """The options of the backend openvino."""

    precision: str = PRECISIONS[0]
    """What encoders and prefills compute in. A CPU that has no products of bf16 refuses it: give fp32."""
    prepack: bool = field(default=True, metadata={"flag": "--lean"})
    """Of decode steps, as for onnxruntime."""

    def faults(self) -> Iterator[str]:
        """What is wrong with the values."""
        yield from super().faults()
        if self.precision not in PRECISIONS:
            yield f"precision is {shown(self.precision)}: give {' or '.join(PRECISIONS)}"
        yield from flag_fault("prepack", self.prepack)

    def recorded(self) -> dict[str, Any]:
        """Those that an answer depends on, as result files keep them."""
        return {"precision": self.precision, "lean": not self.prepack}
