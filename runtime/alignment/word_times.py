"""When the words of an answer begin, by where the decoder looks as it writes them.

Heads that follow the audio look at where a word begins when they are about to write it. Rows that stand for
more audio get more attention, so attention counts per second; the rows beside the highest one belong to it
as long as they get a good share of what it gets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..decoding.drive import Decoder
from ..decoding.scoring import Floats, Ids
from ..decoding.search import TopTokens
from .row_map import LayerRows

Array = npt.NDArray[Any]

SHORTEST = 0.02  # seconds, below those of a token of any model: what the end of the audio cuts counts so much
LEAST_SHARE = 0.5  # of what heads look at, where a time is told with confidence
MEASURED_SECONDS = 30.0  # of audio: of longer one no time is told with confidence
BESIDE = 0.2  # share of the highest attention; from 0.1 to 0.5 begins on the demo move by 30 ms


@dataclass(frozen=True)
class Word:
    """One word of an answer."""

    text: str
    start: float  # seconds from the beginning of the audio, or of the segment that was answered
    confident: bool = True  # else `start` is likely wrong: the heads looked elsewhere, too, or it goes back


class Looks:
    """A decoder that remembers where each of its rows looks, for the answer that is chosen in the end."""

    def __init__(self, decoder: Decoder) -> None:
        """Of a decoder whose scores tell it."""
        self._decoder = decoder
        self._steps: list[tuple[Sequence[tuple[int, int]], Floats]] = []  # token and parent of each row

    def start(self, k: int) -> TopTokens:
        """As the decoder."""
        return self._kept([], self._decoder.start(k))

    def step(self, tokens: Ids, parents: Ids, k: int) -> TopTokens:
        """As the decoder."""
        rows = list(zip(tokens.tolist(), parents.tolist(), strict=True))
        return self._kept(rows, self._decoder.step(tokens, parents, k))

    def _kept(self, rows: Sequence[tuple[int, int]], top: TopTokens) -> TopTokens:
        assert top.looks is not None, "the graph was compared with the manifest"
        self._steps.append((rows, top.looks))
        return top

    def of(self, tokens: Sequence[int]) -> Iterator[Floats]:
        """By token of an answer the attention of the row that wrote it, (prefix rows or more,).

        Live beams are different answers, so that one row of a step continues another by a token.
        """
        row = 0
        for number in range(len(tokens)):
            rows, looks = self._steps[number]
            if number:
                row = rows.index((tokens[number - 1], row))
            yield looks[row]


def looked_at(attention: Array, rows: LayerRows) -> tuple[float, float]:
    """The seconds that a step looks at most.

    Args:
        attention: of its row to each audio row of a layer, (rows,), in any scale.
        rows: what these stand for.
    """
    seconds = np.array(rows.ends) - np.array(rows.starts)  # 0 where a short clip is filled up with silence
    density = np.where(seconds > 0, attention / np.maximum(seconds, SHORTEST), 0.0)
    best = int(density.argmax())
    others = np.flatnonzero(density < BESIDE * density[best])
    first = int(others[others < best].max(initial=-1)) + 1
    last = int(others[others > best].min(initial=len(density))) - 1
    return rows.starts[first], rows.ends[last]


def share_within(attention: Array, rows: LayerRows, span: tuple[float, float]) -> float:
    """The share of the attention, as `looked_at` takes it, that lies in what it found; 0 without any."""
    starts, ends = np.array(rows.starts), np.array(rows.ends)
    inside = (starts >= span[0]) & (ends <= span[1]) & (starts < ends)
    whole = float(attention.sum())
    return float(attention[inside].sum()) / whole if whole > 0 else 0.0


def words_of(texts: Sequence[str], begins: Sequence[float], sure: Sequence[bool]) -> tuple[Word, ...]:
    """The words of an answer, parted by spaces; each begins with its first token.

    Of the times that are sure, those are told with confidence that are in order, as many as can be.

    Args:
        texts: of the answer up to each of its tokens.
        begins: of the tokens, in seconds.
        sure: of the tokens, whether their steps look at little else.
    """
    words: list[Word] = []
    for text, begin, is_sure in zip(texts, begins, sure, strict=True):
        found = text.split()
        words = [replace(word, text=part) for part, word in zip(found, words, strict=False)]
        words += [Word(part, begin, is_sure) for part in found[len(words) :]]
    places = [place for place, word in enumerate(words) if word.confident]
    in_order = {places[i] for i in _longest_rising([words[place].start for place in places])}
    return tuple(replace(word, confident=place in in_order) for place, word in enumerate(words))


def _longest_rising(times: Sequence[float]) -> Sequence[int]:
    """The places of as many times as there can be of which each is above the one before, last one first."""
    before, lengths = list[int | None](), list[int]()  # of the longest chain that ends at each place
    for place, time in enumerate(times):
        lower = (other for other in range(place) if times[other] < time)
        before.append(max(lower, key=lengths.__getitem__, default=None))
        lengths.append(1 + (0 if before[-1] is None else lengths[before[-1]]))
    chain, last = list[int](), max(range(len(times)), key=lengths.__getitem__, default=None)
    while last is not None:
        chain.append(last)
        last = before[last]
    return chain
