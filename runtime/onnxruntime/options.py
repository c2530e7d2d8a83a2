"""How ONNX Runtime runs an artifact; quick to import, so that the command line can show the defaults."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ...profiles.faults import flag_fault, names_fault
from ..backend_options import CpuOptions

CPU = "CPUExecutionProvider"


@dataclass(frozen=True)
class OnnxRuntimeOptions(CpuOptions):
    """The options of the backend onnxruntime."""

    providers: tuple[str, ...] = (CPU,)  # execution providers, the preferred one first
    prepack: bool = field(default=True, metadata={"flag": "--lean"})
    """Keep a second copy of the decoder weights, which makes beam steps faster."""

    def faults(self) -> Iterator[str]:
        """What is wrong with the values."""
        yield from super().faults()
        yield from names_fault("providers", self.providers)
        yield from flag_fault("prepack", self.prepack)

    def recorded(self) -> dict[str, Any]:
        """Those that an answer depends on, as result files keep them."""
        return {"providers": list(self.providers), "lean": not self.prepack}
