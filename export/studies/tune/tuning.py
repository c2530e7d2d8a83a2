"""The result of a tuning: what was tried, what was chosen, and whether the held-out half agrees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ....evaluation.evaluation import Evaluation, Failure
from ....evaluation.figures.loss import Loss
from ....evaluation.figures.profile_scores import ProfileScores
from ....evaluation.metrics.metric import Metric
from ....evaluation.result_file import evaluation_to_json
from ....profiles.profile import Profile, profile_to_toml
from ....runtime.tables.units import in_percent
from ..reference_request import ReferenceRequest
from .choice import Choice
from .halves import Halves
from .ladders import Candidate, Ladder
from .options import TuneOptions
from .rounds import Tried, checked_loss, is_within
from .timing import Timing

KIND, FORMAT_VERSION = "tune", 1


@dataclass(frozen=True)
class Tuning:
    """A finished tuning with all that is needed to read it."""

    checkpoint: dict[str, Any]
    options: TuneOptions
    reference: ReferenceRequest  # of the search half
    halves: Halves
    ladders: tuple[Ladder, ...]
    highest: tuple[Candidate | None, ...]  # within the budget, of each ladder
    tried: Mapping[str, Tried]  # by name, in the order of the rounds
    rounds: tuple[Evaluation, ...]
    full_kv_bytes: float  # on the search half
    timing: Timing | None  # for the objective latency
    choice: Choice
    held_out: Evaluation | None  # of `full` and the chosen candidate; None where there is none

    @property
    def metric(self) -> Metric:
        """What the budget is of."""
        return self.full.figures[0].metric

    @property
    def full(self) -> ProfileScores:
        """The unreduced model on the search half."""
        return self.rounds[0].profiles[0]

    @property
    def profile(self) -> Profile | None:
        """The chosen profile under the name that was asked for."""
        if self.choice.tried is None:
            return None
        return replace(self.choice.tried.candidate.profile, name=self.options.name)

    @property
    def loss(self) -> Loss | None:
        """What the choice loses on the held-out half."""
        return None if self.held_out is None else checked_loss(self.held_out.profiles[1])

    @property
    def is_confirmed(self) -> bool:
        """Whether there is a choice, and the held-out half finds it within the budget, too."""
        return self.loss is not None and is_within(self.loss, self.options.max_loss)

    @property
    def failures(self) -> Iterator[Failure]:
        """Each clip that could not be answered, once for each reason."""
        evaluations = (*self.rounds, *((self.held_out,) if self.held_out else ()))
        every = (failure for found in evaluations for failure in found.failures)
        yield from {(failure.clip.id, failure.reason): failure for failure in every}.values()

    def to_json(self) -> dict[str, Any]:
        """A dict ready for JSON; absent parts are None."""
        first, chosen = evaluation_to_json(self.rounds[0]), self.profile
        return {
            "kind": KIND,
            "format_version": FORMAT_VERSION,
            "checkpoint": self.checkpoint,
            "task": first["task"],
            "metric": asdict(self.metric),
            "max_loss": self.options.max_loss,
            "objective": self.options.objective,
            "seed": self.options.evaluation.seed,
            "protocol": self._protocol(first["options"]),
            "clips": self._clips(),
            "full": {**first["profiles"][0], "kv_bytes": self.full_kv_bytes},
            "ladders": [
                _ladder(ladder, highest) for ladder, highest in zip(self.ladders, self.highest, strict=True)
            ],
            "candidates": list(self._candidates()),
            "timing": None if self.timing is None else self.timing.benchmark,
            "choice": self.choice.tried.candidate.name if self.choice.tried else None,
            "profile": None if chosen is None else profile_to_toml(chosen),
            "reason": self.choice.reason,
            "held_out": self._held_out(),
            "failures": [
                {"id": failure.clip.id, "line": failure.clip.line, "reason": failure.reason}
                for failure in self.failures
            ],
            "environment": first["environment"],
        }

    def _protocol(self, evaluation: dict[str, Any]) -> dict[str, Any]:
        options = self.options
        return {
            "reference_audio_seconds": float(self.reference.audio_seconds),
            "reference_text_rows": self.reference.text_rows,
            "positions": list(options.positions),
            "levels": [in_percent(level) for level in sorted(options.levels)],
            "bisection": "losses are taken to grow with the level; within the budget: by the point estimate",
            **{name: value for name, value in evaluation.items() if name not in ("profiles", "seed")},
        }

    def _clips(self) -> dict[str, Any]:
        search, held_out = self.halves.search, self.halves.held_out
        return {
            "source": str(search.source),
            "search": [clip.id for clip in search.clips],
            "held_out": [clip.id for clip in held_out.clips],
            "search_digest": self.rounds[0].clips_digest,
        }

    def _candidates(self) -> Iterator[dict[str, Any]]:
        contents = map(evaluation_to_json, self.rounds)
        entries = {entry["profile"]: entry for content in contents for entry in content["profiles"]}
        for name, tried in self.tried.items():
            profile = tried.candidate.profile
            yield {
                "name": name,
                "method": profile.method,
                "schedule": profile.schedule,
                "start_layer": profile.start_layer,
                "positions": profile.positions,
                "level": in_percent(tried.candidate.level),
                "toml": profile_to_toml(profile),
                "round": tried.round,
                **{key: value for key, value in entries[name].items() if key != "profile"},
                "kv_bytes": tried.kv_bytes,
                **_loss(tried.loss),
                "feasible": tried.feasible,
            }

    def _held_out(self) -> dict[str, Any] | None:
        if self.held_out is None or self.loss is None:
            return None
        content = evaluation_to_json(self.held_out)
        return {
            "digest": content["clips"]["digest"],
            "measured": content["clips"]["measured"],
            "profiles": content["profiles"],
            **_loss(self.loss),
            "within_budget": self.is_confirmed,
        }


def _ladder(ladder: Ladder, highest: Candidate | None) -> dict[str, Any]:
    return {
        "method": ladder.method,
        "schedule": ladder.schedule,
        "start_layer": ladder.start_layer,
        "positions": ladder.positions,
        "reachable": [in_percent(candidate.level) for candidate in ladder.candidates],
        "unreachable": ladder.unreachable,
        "highest": None if highest is None else highest.name,
    }


def _loss(loss: Loss) -> dict[str, Any]:
    between = loss.interval
    return {
        "loss": loss.value,
        "loss_interval": None if between is None else [between.low, between.high],
    }
