"""How ONNX Runtime runs an artifact; quick to import, so that the command line can show the defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..backend_options import CpuOptions

CPU = "CPUExecutionProvider"


@dataclass(frozen=True)
class OnnxRuntimeOptions(CpuOptions):
    """The options of the backend onnxruntime."""

    providers: tuple[str, ...] = (CPU,)  # execution providers, the preferred one first
    prepack: bool = field(default=True, metadata={"flag": "--lean"})
    """Keep a second copy of the decoder weights, which makes beam steps faster."""

    def recorded(self) -> dict[str, Any]:
        """Those that an answer depends on, as result files keep them."""
        return {"providers": list(self.providers), "lean": not self.prepack}
