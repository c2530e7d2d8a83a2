"""How an artifact is run; quick to import, so that the command line can show the defaults."""

from __future__ import annotations

from dataclasses import dataclass

CPU = "CPUExecutionProvider"


@dataclass(frozen=True)
class RuntimeOptions:
    """How an artifact is run.

    All but `backend` are of ONNX Runtime.
    """

    backend: str = "onnxruntime"
    threads: int = 0  # of one run; 0 takes one a core
    providers: tuple[str, ...] = (CPU,)  # execution providers, the preferred one first
    prepack: bool = True  # keep a second copy of the decoder weights that makes beam steps faster
