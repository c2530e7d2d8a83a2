"""The seconds of audio that each row of each layer stands for, by what a prefill tells of the rows it leaves.

A prefill names rows by their place in their own layer (`profiles/signature.py: row_sources`); here the layers
are put together. Rows that merge are neighbours, and all of them go on in some row. So the mean of their
places says which ones they are: row k ends at twice its mean less where it begins, and the next one begins
behind it. Of groups, of which only some stay, it says the first row and the last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy.typing as npt

from ...profiles.errors import EngineError
from ...profiles.flops import ResolvedProfile
from ...profiles.methods import Method
from ...profiles.schedule import BEFORE_LAYERS
from ..audio.front_end import FrontEnd

Array = npt.NDArray[Any]
Run = tuple[int, int]  # the first and the last row of the prompt that one row stands for


@dataclass(frozen=True)
class LayerRows:
    """The audio rows that one layer keeps for the steps, in order; of a KV head, where each keeps its own."""

    layer: int
    head: int | None
    starts: tuple[float, ...]  # seconds from the beginning of the audio
    ends: tuple[float, ...]


@dataclass(frozen=True)
class PromptRows:
    """What the rows of a prompt are, before any of them is removed."""

    before: int  # of text
    audio: int
    after: int  # of text
    boundaries: tuple[float, ...]  # seconds where tokens of audio begin, and where the last one ends
    bos_rows: int  # that stand before the tokens, as part of the audio

    def seconds(self, run: Run) -> tuple[float, float] | None:
        """What a row stands for; None of one that has no audio in it."""
        offset, tokens = self.before + self.bos_rows, len(self.boundaries) - 1
        first, last = max(run[0] - offset, 0), min(run[1] - offset, tokens - 1)
        return (self.boundaries[first], self.boundaries[last + 1]) if first <= last else None


def prompt_rows(front_end: FrontEnd, before: int, audio: int, after: int, seconds: float) -> PromptRows:
    """Of a prompt with `audio` rows for so many seconds, between rows of text."""
    tokens = audio - front_end.rows_around
    boundaries = tuple(min(front_end.begin_of(token), seconds) for token in range(tokens + 1))
    return PromptRows(before, audio, after, boundaries, front_end.bos_rows)


def row_map(
    resolved: ResolvedProfile, prompt: PromptRows, sources: Mapping[int, Array]
) -> tuple[LayerRows, ...]:
    """The rows of every layer.

    Args:
        resolved: the profile.
        prompt: what its rows are at first.
        sources: by place what `row_sources` says there: (rows left,), or of caches (kv_heads, rows left),
            or of groups (2, rows left).

    Raises:
        EngineError: rows that are none, or that do not add up.
    """
    runs: list[Run] = [(row, row) for row in range(prompt.before + prompt.audio + prompt.after)]
    found: list[LayerRows] = []
    left = _reading(resolved.profile.traits)
    if BEFORE_LAYERS in sources:
        runs = left(runs, sources[BEFORE_LAYERS])
    for layer in range(len(resolved.ratios)):
        if resolved.is_of_caches and layer in sources:
            heads = enumerate(sources[layer])
            found += [_layer_rows(layer, head, _kept(runs, places), prompt) for head, places in heads]
            continue
        found.append(_layer_rows(layer, None, runs, prompt))
        if layer in sources:
            runs = left(runs, sources[layer])
    return tuple(found)


def _reading(method: Method) -> Callable[[Sequence[Run], Array], list[Run]]:
    """How what a method tells is read."""
    if method.selects_groups:
        return _selected
    return _merged if method.merges else _kept


def _layer_rows(layer: int, head: int | None, runs: Sequence[Run], prompt: PromptRows) -> LayerRows:
    spans = [span for run in runs if (span := prompt.seconds(run)) is not None]
    return LayerRows(layer, head, tuple(start for start, _ in spans), tuple(end for _, end in spans))


def _kept(runs: Sequence[Run], places: Array) -> list[Run]:
    rows = [round(place) for place in places.tolist()]
    if any(left >= right for left, right in pairwise((-1, *rows, len(runs)))):
        raise EngineError(f"the rows that a layer keeps are not {len(rows)} of {len(runs)} in order")
    return [runs[row] for row in rows]


def _merged(runs: Sequence[Run], means: Array) -> list[Run]:
    clusters = list(_clusters(means))
    end = clusters[-1][1] + 1 if clusters else 0
    if end != len(runs) or any(first > last for first, last in clusters):
        raise EngineError(f"the rows that a layer merges are not {len(clusters)} of {len(runs)} in order")
    return [(runs[first][0], runs[last][1]) for first, last in clusters]


def _selected(runs: Sequence[Run], bounds: Array) -> list[Run]:
    groups = [(round(first), round(last)) for first, last in bounds.T.tolist()]
    ends = [-1, *(bound for group in groups for bound in group), len(runs)]
    begins_late = all(end < first for end, first in zip(ends[::2], ends[1::2], strict=True))
    if not begins_late or any(first > last for first, last in groups):
        raise EngineError(f"the groups that a layer keeps are not {len(groups)} of {len(runs)} rows in order")
    return [(runs[first][0], runs[last][1]) for first, last in groups]


def _clusters(means: Array) -> Iterator[Run]:
    first = 0
    for mean in means.tolist():
        last = round(2 * mean) - first
        yield first, last
        first = last + 1
