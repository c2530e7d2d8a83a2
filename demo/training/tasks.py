"""What can be asked about a clip, and the right answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .vocabulary import (
    AFTER,
    ASR,
    DAY,
    DAYS,
    DESCRIBE,
    FRENCH,
    GERMAN,
    MONTH,
    MONTHS,
    QUESTION,
    STYLE,
    TO_FRENCH,
    TO_GERMAN,
    caption,
)

ASKED_BY = {
    ASR: "asr",
    TO_FRENCH: "translate",
    TO_GERMAN: "translate",
    STYLE: "classify",
    DESCRIBE: "caption",
    QUESTION: "qa",
}
"""The first token of a prompt -> the task, as evaluation manifests name it."""


@dataclass(frozen=True)
class Facts:
    """All that is known of a clip without its audio."""

    words: tuple[str, ...]
    topic: str
    room: str
    style: str | None


@dataclass(frozen=True)
class Question:
    """A prompt and its answer, both in words of the vocabulary."""

    prompt: str
    answer: str


def questions(facts: Facts, draw: np.random.Generator) -> Iterator[Question]:
    """Every question that the clip has one right answer to; of the words to ask after, one at random."""
    words = facts.words
    yield Question(ASR, " ".join(words))
    yield Question(TO_FRENCH, " ".join(FRENCH[word] for word in words))
    yield Question(TO_GERMAN, " ".join(GERMAN[word] for word in words))
    if facts.style is not None:
        yield Question(STYLE, facts.style)
        yield Question(DESCRIBE, caption(facts.style, facts.topic, facts.room))
    for kind, members in ((DAY, DAYS), (MONTH, MONTHS)):
        if len(said := [word for word in words if word in members]) == 1:
            yield Question(f"{QUESTION} {kind}", said[0])
    once = [i for i in range(len(words) - 1) if words.count(words[i]) == 1]
    if once:
        place = once[int(draw.integers(len(once)))]
        yield Question(f"{QUESTION} {AFTER} {words[place]}", words[place + 1])
