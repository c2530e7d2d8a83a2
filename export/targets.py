"""What graphs are built for: a target has its own lowering, and a backend of the runtime that runs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # light to import: options take their names from here
    from .graphs.lowering.lowering import Lowering


def _onnxruntime() -> Lowering:
    from .graphs.lowering.onnxruntime import OnnxRuntimeLowering

    return OnnxRuntimeLowering()


TARGETS: dict[str, Callable[[], Lowering]] = {"onnxruntime": _onnxruntime}
"""Name -> what makes its lowering. Engines have theirs in `engines/`: graphs for them are thrown away."""
