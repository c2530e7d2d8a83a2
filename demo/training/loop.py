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
from .model import HIDDEN, Model
from .vocabulary import TOKENS

CTC_LAYER = 6


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to learn."""

    steps: int = 5500
    max_rows: int = 1600  # audio rows of a batch
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    warm_up: int = 100
    flat: float = 0.3  # share of the steps before the rate falls
    shortest: int = 75  # audio rows of the longest clip at the beginning
    longest: int = 750  # and from `growth` on
    growth: float = 0.6  # share of the steps in which clips become longer
    noise: float = 0.15  # added to encoder output, in its standard deviations
    ctc: tuple[float, float] = (0.5, 0.2)  # weight in the first and in the second half
    seed: int = 0


class Trainer:
    """A model in training, with all that a checkpoint needs to go on."""

    def __init__(self, model: Model, features: Features, recipe: Recipe) -> None:
        self.model, self.recipe, self._features = model, recipe, features
        self.body = model.model.language_model
        self.projector = model.model.multi_modal_projector
        self.words = nn.Linear(HIDDEN, len(TOKENS))
        trained = [*self.body.parameters(), *self.projector.parameters(), *self.words.parameters()]
        for parameter in trained:
            parameter.requires_grad_(True)
        self._trained = trained
        self.optimizer = torch.optim.AdamW(
            trained, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay, fused=True
        )
        self.step = 0
        self._order = sorted(range(len(features)), key=features.length)
        self._spread = float(np.std(features.rows(self._order[-1])))

    def run(self, checkpoint: Path, every: int = 250) -> Iterator[str]:
        """Train to the last step, saving every so many steps; yields a line of losses now and then."""
        self.model.train()
        losses, since = [], time.perf_counter()
        while self.step < self.recipe.steps:
            draw = np.random.default_rng((self.recipe.seed, self.step))
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
        recipe = self.recipe
        grown = min(1.0, self.step / (recipe.growth * recipe.steps))
        longest = round(recipe.shortest + grown * (recipe.longest - recipe.shortest))
        return draw_batch(self._features, self._order, draw, recipe.max_rows, longest)

    def _learn(self, batch: Batch, draw: np.random.Generator) -> tuple[float, float]:
        share = self.step / self.recipe.steps
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * _rate(self.step, share, self.recipe)
        self.optimizer.zero_grad()
        torch.manual_seed(int(draw.integers(2**31)))
        answers, words = self._losses(batch)
        loss = answers + self.recipe.ctc[share >= 0.5] * words
        loss.backward()
        nn.utils.clip_grad_norm_(self._trained, 1.0)
        self.optimizer.step()
        return answers.item(), words.item()

    def _losses(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        audio = batch.audio + self.recipe.noise * self._spread * torch.randn_like(batch.audio)
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


def _rate(step: int, share: float, recipe: Recipe) -> float:
    """Share of the learning rate: up in a line, flat, down in a half cosine to nothing."""
    falling = max(0.0, (share - recipe.flat) / (1.0 - recipe.flat))
    return min(1.0, (step + 1) / recipe.warm_up) * 0.5 * (1.0 + math.cos(math.pi * falling))
