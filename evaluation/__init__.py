"""What the profiles of an artifact cost in accuracy, and many clips transcribed."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .bulk.options import TranscribeOptions
    from .bulk.transcribe import transcribe
    from .clips.clip import Clip, ClipSet
    from .clips.read import read_clips
    from .clips.requests import read_requests
    from .evaluation import Evaluation, Failure, evaluate
    from .figures.scores import Figure, score
    from .options import Bootstrap, EvalOptions
    from .result import evaluation_result
    from .results.files import result_text

__all__ = [
    "Bootstrap",
    "Clip",
    "ClipSet",
    "EvalOptions",
    "Evaluation",
    "Failure",
    "Figure",
    "TranscribeOptions",
    "evaluate",
    "evaluation_result",
    "read_clips",
    "read_requests",
    "result_text",
    "score",
    "transcribe",
]
_MODULES = {
    **dict.fromkeys(("Clip", "ClipSet"), "clips.clip"),
    "read_clips": "clips.read",
    "read_requests": "clips.requests",
    "TranscribeOptions": "bulk.options",
    "transcribe": "bulk.transcribe",
    "evaluation_result": "result",
    "result_text": "results.files",
    **dict.fromkeys(("Evaluation", "Failure", "evaluate"), "evaluation"),
    **dict.fromkeys(("Bootstrap", "EvalOptions"), "options"),
    **dict.fromkeys(("Figure", "score"), "figures.scores"),
}


def __getattr__(name: str) -> object:
    """Import a module with the first of its names that is used, so that light ones stay quick to import."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
