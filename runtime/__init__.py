"""Run an artifact: audio in, text and latency out."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .audio.encoder import EncodedAudio
    from .batching.submitted import Submitted
    from .cancellation.cancellation import Cancellation
    from .choice.target import Auto
    from .decoding.options import SearchOptions
    from .prompt import PromptIds, RawPrompt
    from .results import GenerationResult, TextHypothesis
    from .segments.options import SegmentOptions
    from .segments.segments import Segment, Segments
    from .speech_lm import SpeechLM
    from .stream import Stream

__all__ = [
    "Auto",
    "Cancellation",
    "EncodedAudio",
    "GenerationResult",
    "PromptIds",
    "RawPrompt",
    "SearchOptions",
    "Segment",
    "SegmentOptions",
    "Segments",
    "SpeechLM",
    "Stream",
    "Submitted",
    "TextHypothesis",
]
_MODULES = {
    "Auto": "choice.target",
    "Cancellation": "cancellation.cancellation",
    "EncodedAudio": "audio.encoder",
    "SearchOptions": "decoding.options",
    **dict.fromkeys(("PromptIds", "RawPrompt"), "prompt"),
    **dict.fromkeys(("GenerationResult", "TextHypothesis"), "results"),
    "SegmentOptions": "segments.options",
    **dict.fromkeys(("Segment", "Segments"), "segments.segments"),
    "SpeechLM": "speech_lm",
    "Stream": "stream",
    "Submitted": "batching.submitted",
}


def __getattr__(name: str) -> object:
    """Import a module with the first of its names that is used, so that light ones stay quick to import."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
