"""The training loop: stages of so many steps, a log of the losses, a checkpoint every few minutes."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fastadasp.runtime.environment import peak_resident_bytes

from .batches import IGNORED, Batch, Clip, Order, make_batch
from .language_model import Language
from .model import Model

ORDER_SEED = 0  # of the clips: one order for all stages, so that each can hear what those before it have not
MAX_ROWS = 2400  # decoder rows of a batch
WEIGHT_DECAY = {"encoder": 0.01, "projector": 0.01, "ctc": 0.0, "lora": 0.0, "norms": 0.0}
SIZE_WEIGHT = 1.0  # of the loss that holds audio rows at the size of embeddings
LARGEST_GRADIENT = 1.0
LOG_EVERY, HELD_OUT_EVERY = 5, 100  # steps
SAVE_EVERY = 300.0  # seconds
STOP = "stop"  # a file of this name in the work folder ends the training


@dataclass(frozen=True)
class Stage:
    """How long, how fast, and by which losses a model learns."""

    name: str
    steps: int
    rates: dict[str, float]  # kind of parameters -> highest learning rate; other kinds stay as they are
    answers: bool = True  # whether the decoder learns to answer
    ctc: tuple[float, float, float] = (0.0, 0.0, 0.0)  # weight, share of the steps it holds, share it ends at
    warm_up: int = 40
    flat: float = 1.0  # share of the steps before the rate falls
    last: float = 0.0  # share of the highest rate at the end
    files: int | None = None  # of the features, the first so many that it learns from; None for all
    gaps: float = 0.0  # largest share of audio rows after which positions are left out
    seed: int = 0
    first: int = 0  # the batches of the order of clips that come before its own: those of the stage before it

    @property
    def places(self) -> list[int]:
        """Of its batches in the order of clips: the same of any seed, shuffled by those above 0."""
        places = np.arange(self.first, self.first + self.steps)
        return (np.random.default_rng(self.seed).permutation(places) if self.seed else places).tolist()

    def rate(self, step: int) -> float:
        """Share of the learning rate: up in a line, flat, down in a half cosine to `last`."""
        falling = max(0.0, (step / self.steps - self.flat) / (1.0 - self.flat)) if self.flat < 1.0 else 0.0
        cosine = 0.5 * (1.0 + math.cos(math.pi * falling))
        return min(1.0, (step + 1) / self.warm_up) * (self.last + (1.0 - self.last) * cosine)

    def ctc_weight(self, step: int) -> float:
        """Flat, then down in a line."""
        weight, hold, end = self.ctc
        share = step / self.steps
        return weight * (1.0 if share <= hold else max(0.0, (end - share) / max(end - hold, 1e-9)))


@dataclass(frozen=True)
class Losses:
    """Of one batch; those that are not in use are 0."""

    answers: float
    ctc: float
    size: float  # of the audio rows, root mean square
    clips: int


class StoppedError(Exception):
    """The training was asked to end before its last step; what is done is saved."""


class Trainer:
    """A model in one stage, with all that a checkpoint needs to go on."""

    def __init__(
        self,
        model: Model,
        language: Language,
        stage: Stage,
        clips: list[Clip],
        held_out: list[Clip],
        after: int = 0,  # steps that the stage before it has made
    ) -> None:
        self.model, self.stage, self.step, self.after = model, stage, 0, after
        self._language, self._clips, self._held_out = language, clips, held_out
        around = len(language.before) + len(language.after)
        lengths = [clip.audio + (len(clip.tokens) + around if stage.answers else 0) for clip in clips]
        self._order, self._places = Order(lengths, MAX_ROWS, ORDER_SEED), stage.places
        model.requires_grad_(False)
        kinds = {kind: parts for kind, parts in model.trained().items() if kind in stage.rates}
        self._learning = [part.requires_grad_(True) for parts in kinds.values() for part in parts]
        groups = [
            {
                "params": parts,
                "lr": stage.rates[kind],
                "weight_decay": WEIGHT_DECAY[kind],
                "highest": stage.rates[kind],
            }
            for kind, parts in kinds.items()
        ]
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)

    def run(self, checkpoint: Path, log: Path, stop: Callable[[], bool] = lambda: False) -> None:
        """Train to the last step.

        Raises:
            StoppedError: `stop` said so.
        """
        saved, losses, begin = time.monotonic(), [], self.step
        while self.step < self.stage.steps:
            losses.append(self._learn())
            self.step += 1
            if self.step % LOG_EVERY == 0 or self.step == 1:
                self._say(log, losses)
                losses = []
            if stop():
                self.save(checkpoint)
                raise StoppedError
            if time.monotonic() - saved > SAVE_EVERY:
                self.save(checkpoint)
                saved = time.monotonic()
        if self.step > begin:
            self.save(checkpoint)

    def save(self, path: Path) -> None:
        """Keep everything that `load` needs, in one step."""
        scratch = path.with_suffix(".part")
        state = {
            "step": self.step,
            "stage": asdict(self.stage),
            "after": self.after,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        torch.save(state, scratch)
        with scratch.open("rb") as file:
            os.fsync(file.fileno())
        scratch.replace(path)

    def load(self, path: Path) -> None:
        """Go on where a checkpoint was saved.

        Raises:
            SystemExit: it is of a stage with other settings, or of one that began from another step.
        """
        state = torch.load(path, weights_only=True)
        if state["stage"] != asdict(self.stage):
            raise SystemExit(f"{path}: saved under other settings, {state['stage']}; give them, or remove it")
        began = state.get("after", self.after)  # a checkpoint need not say
        if began != self.after:
            raise SystemExit(
                f"{path}: began from step {began} of the stage before it, which is at step {self.after} now; "
                "remove it to begin again"
            )
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])

    @torch.no_grad()
    def held_out_loss(self) -> float:
        """Loss per token of the right transcripts of held-out clips."""
        found = [
            self._losses(self._batch(self._held_out[i : i + 16], None), 0.0)[1].answers
            for i in range(0, len(self._held_out), 16)
        ]
        return float(np.mean(found))

    def _batch(self, clips: list[Clip], draw: np.random.Generator | None) -> Batch:
        width = self.model.projector.in_features
        return make_batch(clips, self._language, width, draw, self.stage.gaps)

    def _learn(self) -> Losses:
        place = self._places[self.step]
        draw = np.random.default_rng((self.stage.seed, place, 1))
        batch = self._batch([self._clips[i] for i in self._order[place]], draw)
        for group in self.optimizer.param_groups:
            group["lr"] = group["highest"] * self.stage.rate(self.step)
        self.optimizer.zero_grad()
        loss, shown = self._losses(batch, self.stage.ctc_weight(self.step))
        loss.backward()
        nn.utils.clip_grad_norm_(self._learning, LARGEST_GRADIENT)
        self.optimizer.step()
        return shown

    def _losses(self, batch: Batch, ctc_weight: float) -> tuple[torch.Tensor, Losses]:
        audio = self.model.audio(batch.rows, batch.row_lengths)
        size_loss, size = self.model.size_loss(audio, batch.lengths)
        zero = torch.zeros(())
        answers = self._answers(batch, audio) if self.stage.answers else zero
        ctc = self._ctc(batch, audio) if ctc_weight else zero
        loss = answers + ctc_weight * ctc + SIZE_WEIGHT * size_loss
        return loss, Losses(answers.item(), ctc.item(), size.item(), len(batch.lengths))

    def _answers(self, batch: Batch, audio: torch.Tensor) -> torch.Tensor:
        """Cross entropy of the transcripts, mean over their tokens."""
        decoder = self.model.decoder
        hidden = decoder(input_rows(decoder.embedding, batch, audio.bfloat16()), batch.positions)
        asked = batch.targets != IGNORED
        logits = nn.functional.linear(hidden[asked], decoder.embedding).float()
        return nn.functional.cross_entropy(logits, batch.targets[asked])

    def _ctc(self, batch: Batch, audio: torch.Tensor) -> torch.Tensor:
        spoken = [[self.model.ctc.places[token] for token in tokens] for tokens in batch.transcripts]
        return nn.functional.ctc_loss(
            self.model.ctc(audio).transpose(0, 1),
            torch.tensor([token for tokens in spoken for token in tokens]),
            batch.lengths,
            torch.tensor([len(tokens) for tokens in spoken]),
            zero_infinity=True,
        )

    def _say(self, log: Path, losses: list[Losses]) -> None:
        """One line of the log: means over the last steps."""
        means = {
            name: round(float(np.mean([getattr(each, name) for each in losses])), 4)
            for name in ("answers", "ctc", "size")
        }
        line: dict[str, Any] = {
            "stage": self.stage.name,
            "seed": self.stage.seed,
            "step": self.step,
            "time": round(time.time(), 1),
            "cpu_seconds": round(time.process_time(), 1),
            "peak_gb": round((peak_resident_bytes() or 0) / 1e9, 1),  # of the run until now
            **means,
            "clips": sum(each.clips for each in losses),
            "rate": round(self.stage.rate(self.step - 1), 4),
            "ctc_weight": round(self.stage.ctc_weight(self.step - 1), 4),
        }
        if self.stage.answers and self.step % HELD_OUT_EVERY == 0:
            line["held_out"] = round(self.held_out_loss(), 4)
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def input_rows(embedding: torch.Tensor, batch: Batch, audio: torch.Tensor) -> torch.Tensor:
    """Embedded tokens with the audio rows in their places: (clips, R, hidden)."""
    x = nn.functional.embedding(batch.tokens, embedding)
    widest = int(batch.lengths.max())
    audio = audio[:, :widest]
    at = torch.arange(widest)[None] < batch.lengths[:, None]
    behind = x.shape[1] - batch.first - widest
    inside = nn.functional.pad(at, (batch.first, behind))
    return torch.where(inside[..., None], nn.functional.pad(audio, (0, 0, batch.first, behind)), x)


@contextmanager
def asked_to_stop(work: Path) -> Iterator[Callable[[], bool]]:
    """Whether a signal has come, or the file `stop` lies in the work folder."""
    asked: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda number, _: asked.append(number))
    try:
        yield lambda: bool(asked) or (work / STOP).is_file()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
