"""The map of the rows of one clip, as `run --map` writes it and `report` reads it; times are in seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ...profiles.codec import RecordError
from ...runtime.alignment.row_map import LayerRows
from ...runtime.environment import Environment

ROW_MAP_FORMAT = 2
MOST_LEVELS = 4000


@dataclass(frozen=True)
class RowMapResult:
    """One answer. Raises RecordError with every part that cannot be."""

    artifact: Mapping[str, Any]
    clip: str
    profile: str
    text: str
    audio_seconds: float
    levels: tuple[float, ...]  # the loudest sample of stretches of equal length, full scale being 1
    boundaries: tuple[float, ...]  # where the audio tokens begin, and where the last one ends
    layers: tuple[LayerRows, ...]
    environment: Environment

    def __post_init__(self) -> None:
        if faults := list(self._faults()):
            raise RecordError(*faults)

    def _faults(self) -> Iterator[str]:
        if not self.audio_seconds > 0:
            yield f"audio_seconds is {self.audio_seconds}, not above 0"
        if not 0 < len(self.levels) <= MOST_LEVELS or not all(level >= 0 for level in self.levels):
            yield f"levels are not up to {MOST_LEVELS} numbers from 0 on"
        if len(self.boundaries) < 2 or not _are_in_order(self.boundaries, self.audio_seconds):
            yield "boundaries are not two times or more that follow each other within the audio"
        if not self.layers:
            yield "layers is empty"
        for i, rows in enumerate(self.layers):
            if not _rise(rows, self.audio_seconds):
                yield f"layers[{i}] has rows that do not follow each other within the audio"


def _rise(rows: LayerRows, seconds: float) -> bool:
    if len(rows.starts) != len(rows.ends) or rows.layer < 0:
        return False
    return _are_in_order([time for row in zip(rows.starts, rows.ends, strict=True) for time in row], seconds)


def _are_in_order(times: Sequence[float], seconds: float) -> bool:
    return all(left <= right for left, right in pairwise((0.0, *times, seconds)))
