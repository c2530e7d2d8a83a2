"""Run an artifact: audio in, text and latency out."""

from .speech_lm import GenerationResult, PromptIds, SearchOptions, SpeechLM, TextHypothesis

__all__ = ["GenerationResult", "PromptIds", "SearchOptions", "SpeechLM", "TextHypothesis"]
