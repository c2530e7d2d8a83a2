"""Run an artifact: audio in, text and latency out."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .speech_lm import (
        EncodedAudio,
        GenerationResult,
        PromptIds,
        SearchOptions,
        SpeechLM,
        Stream,
        TextHypothesis,
    )

__all__ = [
    "EncodedAudio",
    "GenerationResult",
    "PromptIds",
    "SearchOptions",
    "SpeechLM",
    "Stream",
    "TextHypothesis",
]


def __getattr__(name: str) -> object:
    """Import ONNX Runtime with the first name that is used, so that light modules stay quick to import."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(".speech_lm", __name__), name)
