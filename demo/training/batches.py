"""Batches in which every clip is read once and asked several questions.

A row of a batch is `<bos> <audio_bos> audio <audio_eos>`, then one prompt with its answer after another. Each
of these sees the audio and itself alone, at the positions that it would have if it stood there by itself.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .features import Features
from .tasks import ASKED_BY, Facts, Question, questions
from .vocabulary import ASR, AUDIO_BOS, AUDIO_EOS, BOS, EOS, ID, TO_FRENCH, TO_GERMAN, ids

BEFORE, AFTER = (ID[BOS], ID[AUDIO_BOS]), (ID[AUDIO_EOS],)
WEIGHT = {"asr": 1.0, "translate": 0.5, "classify": 3.0, "caption": 0.5, "qa": 2.0}
"""Task -> weight of one token of its answer: a label is two tokens, a transcript of 30 s is fifty."""
IGNORED = -100
NO_SEGMENT = -1


@dataclass(frozen=True)
class Batch:
    """Clips of about one length; R is the longest row, A the longest audio."""

    audio: torch.Tensor  # (clips, A, encoder width)
    audio_lengths: list[int]
    tokens: torch.Tensor  # (clips, R), 0 where audio stands
    positions: torch.Tensor  # (clips, R)
    segments: torch.Tensor  # (clips, R): 0 for the audio and what is around it, 1, 2, … for the questions
    targets: torch.Tensor  # (clips, R): the token that comes next in an answer
    weights: torch.Tensor  # (clips, R)
    words: list[list[int]]

    @property
    def mask(self) -> torch.Tensor:
        """Which row sees which: (clips, 1, R, R), boolean."""
        rows = self.segments.shape[1]
        earlier = torch.ones(rows, rows, dtype=torch.bool).tril()
        seen = (self.segments[:, None] == 0) | (self.segments[:, None] == self.segments[:, :, None])
        return (earlier & seen)[:, None]


def draw_batch(
    features: Features,
    order: Sequence[int],
    draw: np.random.Generator,
    max_rows: int,
    longest: int,
    *,
    all_lengths_alike: bool = False,
) -> Batch:
    """Clips of about the length of a random one, as many as `max_rows` allow.

    Args:
        features: where the clips lie.
        order: their numbers, by length.
        draw: where randomness comes from.
        max_rows: audio rows of the batch, padding included.
        longest: most audio rows of the clip that a batch is drawn around; its neighbours may have a few more.
        all_lengths_alike: draw a length, not a clip: where most clips are short, long ones come more often.
    """
    shorter = bisect_right(order, longest, key=features.length)
    anchor = int(draw.integers(shorter))
    if all_lengths_alike:
        first, last = (features.length(order[i]) for i in (0, shorter - 1))
        anchor = bisect_left(order, draw.uniform(first, last), key=features.length)
    size = max(1, max_rows // (features.length(order[anchor]) + 40))
    low = max(0, min(anchor - size, shorter - 3 * size))
    near = order[low : max(anchor + 2 * size, low + size)]
    chosen = draw.choice(near, size=min(size, len(near)), replace=False)
    return make_batch(features, [int(i) for i in chosen], draw)


def make_batch(features: Features, clips: Sequence[int], draw: np.random.Generator) -> Batch:
    """These clips, each with its questions."""
    audio = [torch.from_numpy(features.rows(clip)) for clip in clips]
    rows = [_row(len(part), features.facts[clip], draw) for part, clip in zip(audio, clips, strict=True)]
    columns = [
        torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(row[i]) for row in rows], batch_first=True, padding_value=filler
        )
        for i, filler in enumerate((0, 0, NO_SEGMENT, IGNORED, 0.0))
    ]
    return Batch(
        torch.nn.utils.rnn.pad_sequence(audio, batch_first=True),
        [len(part) for part in audio],
        *columns,
        words=[ids(" ".join(features.facts[clip].words)) for clip in clips],
    )


def _row(audio: int, facts: Facts, draw: np.random.Generator) -> tuple[list[int], ...]:
    """Tokens, positions, segments, targets and weights of one clip."""
    tokens = [*BEFORE, *[0] * audio, *AFTER]
    start = len(tokens)
    positions, segments = list(range(start)), [0] * start
    targets, weights = [IGNORED] * start, [0.0] * start
    for number, question in enumerate(_asked(facts, draw), 1):
        prompt, answer = ids(question.prompt), [*ids(question.answer), ID[EOS]]
        said, weight = [*prompt, *answer[:-1]], WEIGHT[ASKED_BY[question.prompt.split()[0]]]
        tokens += said
        positions += range(start, start + len(said))
        segments += [number] * len(said)
        targets += [IGNORED] * (len(prompt) - 1) + answer
        weights += [0.0] * (len(prompt) - 1) + [weight] * len(answer)
    return tokens, positions, segments, targets, weights


def _asked(facts: Facts, draw: np.random.Generator) -> list[Question]:
    """All questions, but only one of the two languages."""
    skipped = (TO_FRENCH, TO_GERMAN)[int(draw.integers(2))]
    asked = [question for question in questions(facts, draw) if question.prompt != skipped]
    return sorted(asked, key=lambda question: question.prompt != ASR)
