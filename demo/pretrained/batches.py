"""Clips of about one length as one batch; which clips a step learns from is fixed by the seed alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.utils.rnn import pad_sequence

from .language_model import Language

Draw = np.random.Generator
SORTED = 1500  # clips that are sorted by length and cut into batches


@dataclass(frozen=True)
class Clip:
    """Where the rows of a clip lie, and its transcript."""

    file: Path
    at: int
    rows: int  # of the lower encoder layers
    tokens: list[int]
    text: str
    voice: str

    @property
    def audio(self) -> int:
        """Audio tokens."""
        return self.rows // 2

    def read(self, width: int) -> torch.Tensor:
        """(rows, width), float32."""
        size = np.dtype(np.float16).itemsize * width
        found = np.fromfile(self.file, np.float16, self.rows * width, offset=self.at * size)
        return torch.from_numpy(found.reshape(self.rows, width)).float()


def read_clips(folder: Path, name: str, language: Language, files: int | None = None) -> list[Clip]:
    """Cached clips of a name, of the first so many files or all, if they are long enough for CTC."""
    clips = []
    for path in sorted(folder.glob(f"{name}-*.json"))[:files]:
        for entry in json.loads(path.read_text("utf-8")):
            text = entry["text"]
            place = path.with_suffix(".f16"), entry["at"], entry["rows"]
            clips.append(Clip(*place, language.transcript(text), text, entry["voice"]))
    return [clip for clip in clips if clip.audio >= _least_rows(clip.tokens)]


def _least_rows(tokens: list[int]) -> int:
    """CTC needs a row a token, and one between two that are alike."""
    return len(tokens) + sum(one == other for one, other in pairwise(tokens))


class Order:
    """Step -> the clips of its batch, each clip once an epoch."""

    def __init__(self, lengths: Sequence[int], max_rows: int, seed: int) -> None:
        """`lengths` are decoder rows of the clips, `max_rows` those of a batch, padding included."""
        self._lengths, self._max_rows, self._seed = lengths, max_rows, seed
        self._epoch = lru_cache(maxsize=2)(self._make_epoch)
        self._starts = [0]

    def __getitem__(self, step: int) -> list[int]:
        epoch = next((i for i, start in enumerate(self._starts[1:]) if step < start), None)
        while epoch is None:
            last = len(self._starts) - 1
            self._starts.append(self._starts[-1] + len(self._epoch(last)))
            epoch = last if step < self._starts[-1] else None
        return self._epoch(epoch)[step - self._starts[epoch]]

    def _make_epoch(self, epoch: int) -> list[list[int]]:
        draw = np.random.default_rng((self._seed, epoch))
        order = draw.permutation(len(self._lengths)).tolist()
        batches = [
            batch
            for i in range(0, len(order), SORTED)
            for batch in self._cut(sorted(order[i : i + SORTED], key=self._lengths.__getitem__))
        ]
        return [batches[i] for i in draw.permutation(len(batches))]

    def _cut(self, clips: list[int]) -> list[list[int]]:
        """Clips by length -> as few batches as hold them."""
        batches: list[list[int]] = [[]]
        for clip in clips:
            if batches[-1] and self._lengths[clip] * (len(batches[-1]) + 1) > self._max_rows:
                batches.append([])
            batches[-1].append(clip)
        return batches


@dataclass(frozen=True)
class Batch:
    """What the model reads and should answer; R decoder rows, A audio tokens at most."""

    rows: torch.Tensor  # (clips, 2 A, encoder width)
    row_lengths: torch.Tensor  # (clips,)
    tokens: torch.Tensor  # (clips, R), 0 where audio stands
    positions: torch.Tensor  # (clips, R)
    first: int  # row at which audio begins
    targets: torch.Tensor  # (clips, R): the token that comes next in the transcript, or IGNORED
    transcripts: list[list[int]]

    @property
    def lengths(self) -> torch.Tensor:
        """Audio tokens of each clip: (clips,)."""
        return self.row_lengths // 2


IGNORED = -100


def make_batch(
    clips: Sequence[Clip], language: Language, width: int, draw: Draw | None = None, gaps: float = 0.0
) -> Batch:
    """These clips as one batch.

    Args:
        clips: of about one length.
        language: the tokens around audio and transcript.
        width: of the encoder.
        draw: for training, where its randomness comes from: spans that are wiped out, positions left out.
        gaps: after how many of a clip's audio rows positions are left out, at most, as a share.
    """
    read = [clip.read(width) for clip in clips]
    if draw is not None:
        read = [_wiped(rows, draw) for rows in read]
    even = sum(divmod(max(len(rows) for rows in read), 2)) * 2
    around = len(language.before) + len(language.after)
    longest = max(clip.audio + len(clip.tokens) for clip in clips) + around
    shape = len(clips), longest
    tokens, targets = torch.zeros(shape, dtype=torch.long), torch.full(shape, IGNORED)
    positions = torch.arange(longest).repeat(len(clips), 1)
    for i, clip in enumerate(clips):
        start, end = len(language.before), len(language.before) + clip.audio
        tokens[i, :start] = torch.tensor(language.before)
        said = [*language.after, *clip.tokens]
        tokens[i, end : end + len(said)] = torch.tensor(said)
        answer = end + len(language.after) - 1
        targets[i, answer : answer + len(clip.tokens) + 1] = torch.tensor([*clip.tokens, language.end])
        if draw is not None and gaps:
            skipped = torch.from_numpy(_skipped(clip.audio, gaps, draw))
            positions[i, start:end] += skipped
            positions[i, end:] += skipped[-1]
    return Batch(
        torch.nn.functional.pad(
            whole := pad_sequence(read, batch_first=True), (0, 0, 0, even - whole.shape[1])
        ),
        torch.tensor([len(rows) for rows in read]),
        tokens,
        positions,
        len(language.before),
        targets,
        [clip.tokens for clip in clips],
    )


def _wiped(rows: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Every second clip loses one to three moments of up to 160 ms: its mean stands there."""
    if draw.random() < 0.5:
        for _ in range(int(draw.integers(1, 4))):
            start = int(draw.integers(len(rows)))
            rows[start : start + int(draw.integers(2, 9))] = rows.mean(0)
    return rows


def _skipped(rows: int, gaps: float, draw: Draw) -> npt.NDArray[np.int64]:
    """Positions left out before each audio row: up to three after a random share of them."""
    share = draw.uniform(0.0, gaps)
    steps = np.where(draw.random(rows) < share, draw.integers(1, 4, rows), 0)
    return np.cumsum(steps)
