"""All that is known of an answer, as JSON takes it."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...runtime import GenerationResult, TextHypothesis


def record(result: GenerationResult) -> dict[str, Any]:
    """The answer with its hypotheses and times, by the names that they have in Python."""
    latency = result.latency
    derived = {name: getattr(latency, name) for name in ("step_ms", "rtf", "rtfx", "tokens_per_second")}
    return {
        **{name: value for name, value in asdict(result).items() if name not in _not_here(result)},
        "finish_reason": result.finish_reason,
        "hypotheses": [_hypothesis(found) for found in result.hypotheses],
        "latency": {**asdict(latency), **derived},
    }


def _not_here(result: GenerationResult) -> tuple[str, ...]:
    """The map, which --map writes; words where the artifact tells no times of them; no score of a text."""
    return "row_map", *(name for name in ("words", "scored_text") if getattr(result, name) is None)


def _hypothesis(found: TextHypothesis) -> dict[str, Any]:
    score = found.score if math.isfinite(found.score) else None
    return {"text": found.text, **asdict(found), "finished": found.finished, "score": score}
