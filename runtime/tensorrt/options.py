"""How TensorRT runs an artifact: all of it was decided when the engines were built."""

from __future__ import annotations

from dataclasses import dataclass

from ..backend_options import BackendOptions


@dataclass(frozen=True)
class TensorRTOptions(BackendOptions):
    """The options of the backend tensorrt: there are none."""
