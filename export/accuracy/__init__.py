"""What the profiles of an artifact cost in accuracy: clips with references in, figures with intervals out."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .clips import Clip, ClipSet, read_clips
    from .comparison import Comparison, compare
    from .comparison_options import CompareOptions
    from .evaluation import Evaluation, Failure, evaluate
    from .options import EvalOptions
    from .scores import Figure, score

__all__ = [
    "Clip",
    "ClipSet",
    "CompareOptions",
    "Comparison",
    "EvalOptions",
    "Evaluation",
    "Failure",
    "Figure",
    "compare",
    "evaluate",
    "read_clips",
    "score",
]
_MODULES = {
    **dict.fromkeys(("Clip", "ClipSet", "read_clips"), "clips"),
    **dict.fromkeys(("Comparison", "compare"), "comparison"),
    "CompareOptions": "comparison_options",
    **dict.fromkeys(("Evaluation", "Failure", "evaluate"), "evaluation"),
    "EvalOptions": "options",
    **dict.fromkeys(("Figure", "score"), "scores"),
}


def __getattr__(name: str) -> object:
    """Import a module with the first of its names that is used, so that light ones stay quick to import."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
