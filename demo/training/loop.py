"""The training loop: cross entropy on answers, and CTC on a middle layer, which teaches the words early."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .batches import BEFORE, Batch, draw_batch
from .features import Features
from .model import Model

CTC_LAYER = 6


MAX_ROWS = 1600  # audio rows of a batch
LONGEST = 750  # audio rows of a clip
NOISE = 0.15  # added to encoder output, in its standard deviations
WEIGHT_DECAY = 0.05


@dataclass(frozen=True)
class Stage:
    """What is learnt from, how long and how fast."""

    name: str
    clips: tuple[str, ...]  # names of cached features
    steps: int
    begin: int  # steps of the stages before
    learning_rate: float
    warm_up: int = 100
    flat: float = 0.3  # share of the steps before the rate falls
    shortest: int = LONGEST  # audio rows of the longest clip at the beginning
    growth: float = 0.0  # share of the steps in which it grows to `LONGEST`
    all_lengths_alike: bool = False  # whether batches of long clips are as frequent as those of short ones
    ctc: tuple[float, float] = (0.2, 0.2)  # weight in the first and in the second half


STAGES = (
    Stage("clips", ("train",), 5500, 0, 1.5e-3, shortest=75, growth=0.6, ctc=(0.5, 0.2)),
    Stage("long", ("train", "long"), 2000, 5500, 6e-4, all_lengths_alike=True),
)


class Trainer:
    """A model in one stage of its training, with all that a checkpoint needs to go on."""

    def __init__(self, model: Model, words: nn.Linear, features: Features, stage: Stage, seed: int) -> None:
        self.model, self.words, self.stage = model, words, stage
        self._features, self._seed = features, seed
        self.body = model.model.language_model
        self.projector = model.model.multi_modal_projector
        trained = [*self.body.parameters(), *self.projector.parameters(), *self.words.parameters()]
        for parameter in trained:
            parameter.requires_grad_(True)
        self._trained = trained
        self.optimizer = torch.optim.AdamW(
            trained, lr=stage.learning_rate, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY, fused=True
        )
        self.step = 0
        self._order = sorted(range(len(features)), key=features.length)
        self._spread = float(np.std(features.rows(self._order[-1])))

    def run(self, checkpoint: Path, every: int = 250) -> Iterator[str]:
        """Train to the last step, saving every so many steps; yields a line of losses now and then."""
        self.model.train()
        losses, since = [], time.perf_counter()
        while self.step < self.stage.steps:
            draw = np.random.default_rng((self._seed, self.stage.begin + self.step))
            losses.append(self._learn(self._batch(draw), draw))
            self.step += 1
            if self.step % 100 == 0:
                answers, words = np.mean(losses[-100:], axis=0)
                pace = (time.perf_counter() - since) / 100
                yield f"step {self.step}: answers {answers:.3f}, words {words:.3f}, {pace:.2f} s a step"
                since = time.perf_counter()
            if self.step % every == 0:
                self.save(checkpoint)

    def save(self, path: Path) -> None:
        """Keep everything that `load` needs."""
        scratch = path.with_suffix(".part")
        parts = {"body": self.body, "projector": self.projector, "words": self.words}
        state = {name: part.state_dict() for name, part in parts.items()}
        torch.save({"step": self.step, "optimizer": self.optimizer.state_dict(), **state}, scratch)
        scratch.replace(path)

    def load(self, path: Path) -> None:
        """Go on where a checkpoint was saved."""
        state = torch.load(path, weights_only=True)
        self.step = state["step"]
        for name in ("body", "projector", "words"):
            getattr(self, name).load_state_dict(state[name])
        self.optimizer.load_state_dict(state["optimizer"])

    def _batch(self, draw: np.random.Generator) -> Batch:
        stage = self.stage
        grown = min(1.0, self.step / (stage.growth * stage.steps)) if stage.growth else 1.0
        longest = round(stage.shortest + grown * (LONGEST - stage.shortest))
        return draw_batch(
            self._features, self._order, draw, MAX_ROWS, longest, all_lengths_alike=stage.all_lengths_alike
        )

    def _learn(self, batch: Batch, draw: np.random.Generator) -> tuple[float, float]:
        share = self.step / self.stage.steps
        for group in self.optimizer.param_groups:
            group["lr"] = self.stage.learning_rate * _rate(self.step, share, self.stage)
        self.optimizer.zero_grad()
        torch.manual_seed(int(draw.integers(2**31)))
        answers, words = self._losses(batch)
        loss = answers + self.stage.ctc[share >= 0.5] * words
        loss.backward()
        nn.utils.clip_grad_norm_(self._trained, 1.0)
        self.optimizer.step()
        return answers.item(), words.item()

    def _losses(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        audio = batch.audio + NOISE * self._spread * torch.randn_like(batch.audio)
        x = input_rows(self.body.embed_tokens.weight, batch, self.projector(audio))
        found = self.body(
            inputs_embeds=x,
            attention_mask=batch.mask,
            position_ids=batch.positions,
            use_cache=False,
            output_hidden_states=True,
        )
        asked = batch.weights > 0
        logits = found.last_hidden_state[asked] @ self.body.embed_tokens.weight.T
        each = nn.functional.cross_entropy(logits, batch.targets[asked], reduction="none")
        answers = (each * batch.weights[asked]).sum() / batch.weights.sum()
        first = len(BEFORE)
        middle = found.hidden_states[CTC_LAYER][:, first : first + batch.audio.shape[1]]
        words = nn.functional.ctc_loss(
            self.words(middle).log_softmax(-1).transpose(0, 1),
            torch.tensor([word for said in batch.words for word in said]),
            torch.tensor(batch.audio_lengths),
            torch.tensor([len(said) for said in batch.words]),
            zero_infinity=True,
        )
        return answers, words


def input_rows(embedding: torch.Tensor, batch: Batch, audio: torch.Tensor) -> torch.Tensor:
    """Embedded tokens with the audio rows in their places: (clips, R, hidden)."""
    x = embedding[batch.tokens]
    first = len(BEFORE)
    at = torch.arange(audio.shape[1])[None] < torch.tensor(batch.audio_lengths)[:, None]
    padded = nn.functional.pad(audio * at[..., None], (0, 0, first, x.shape[1] - first - audio.shape[1]))
    inside = nn.functional.pad(at, (first, x.shape[1] - first - at.shape[1]))
    return torch.where(inside[..., None], padded, x)


def _rate(step: int, share: float, stage: Stage) -> float:
    """Share of the learning rate: up in a line, flat, down in a half cosine to nothing."""
    falling = max(0.0, (share - stage.flat) / (1.0 - stage.flat))
    return min(1.0, (step + 1) / stage.warm_up) * 0.5 * (1.0 + math.cos(math.pi * falling))
