"""The result of a tuning: what was tried, what was chosen, and whether the held-out half agrees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ....evaluation.evaluation import Evaluation
from ....evaluation.figures.loss import Loss, loss_of
from ....evaluation.figures.profile_scores import ProfileScores
from ....evaluation.metrics.metric import Metric
from ....evaluation.recorded import failures
from ....evaluation.results.settings import Failure
from ....profiles.profile import Profile
from ..reference_request import ReferenceRequest
from .choice import Choice
from .halves import Halves
from .ladders import Candidate, Ladder
from .options import TuneOptions
from .rounds import Tried, is_within, losses_fault
from .timing import Timing


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
        """What the choice loses on the held-out half; None where that has no figure."""
        figures = () if self.held_out is None else self.held_out.profiles[1].figures
        return loss_of(figures[0]) if figures else None

    @property
    def doubt(self) -> str | None:
        """Why the held-out half cannot judge the choice; None where it can, and where there is no choice."""
        fault = None if self.held_out is None else losses_fault(self.held_out)
        return fault and f"the held-out half cannot tell what the choice loses, for {fault}"

    @property
    def is_confirmed(self) -> bool:
        """Whether there is a choice, and the held-out half finds it within the budget, too."""
        return not self.doubt and self.loss is not None and is_within(self.loss, self.options.max_loss)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Each clip that could not be answered, once for each reason, whichever rounds it failed in."""
        found: dict[tuple[str, str], Failure] = {}
        for evaluation in (*self.rounds, *((self.held_out,) if self.held_out else ())):
            for failure in failures(evaluation.records):
                known = found.setdefault((failure.id, failure.reason), failure)
                profiles = tuple(dict.fromkeys((*known.profiles, *failure.profiles)))
                found[failure.id, failure.reason] = replace(known, profiles=profiles)
        return tuple(found.values())
