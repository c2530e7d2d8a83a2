"""The rounds of a search: candidates answered on the clips, and judged by what they lose against `full`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from ....evaluation.answering import Progress
from ....evaluation.answers.answers import ClipAnswers
from ....evaluation.clips.clip import ClipSet
from ....evaluation.evaluation import Evaluation
from ....evaluation.figures.loss import Loss, loss_of
from ....evaluation.figures.profile_scores import ProfileScores
from ....evaluation.gate.gate import fault_of
from ....profiles.errors import RequestError
from ....profiles.flops import DecoderDims, kv_bytes
from ..trials import Trials, unanswered
from .ladders import Candidate

FLOAT32_BYTES = 4
ROUNDING = 1e-9  # points: a loss that is the budget but for rounding is within it


@dataclass(frozen=True)
class Tried:
    """A candidate and what it gave on the search half."""

    candidate: Candidate
    round: int  # from 1 on
    scores: ProfileScores
    kv_bytes: float  # of the prompt, the mean over the clips
    loss: Loss
    feasible: bool


class Rounds:
    """Judges candidates; keeps what was found."""

    def __init__(self, trials: Trials, clips: ClipSet, dims: DecoderDims, max_loss: float) -> None:
        self._trials, self._clips, self._dims, self._max_loss = trials, clips, dims, max_loss
        self.tried: dict[str, Tried] = {}  # by the name of the candidate
        self.evaluations: list[Evaluation] = []

    def judge(self, candidates: Sequence[Candidate], progress: Progress = lambda *_: None) -> list[bool]:
        """One round: every clip is encoded once for all of them."""
        found = self.evaluate(candidates, progress)
        for candidate, scores in zip(candidates, found.profiles[1:], strict=True):
            loss = loss_of(scores.figures[0])
            assert loss is not None, "the evaluation was checked"
            self.tried[candidate.name] = Tried(
                candidate,
                len(self.evaluations),
                scores,
                mean_kv_bytes(self._dims, found.answers, candidate.name),
                loss,
                is_within(loss, self._max_loss),
            )
        return [self.tried[candidate.name].feasible for candidate in candidates]

    def evaluate(self, candidates: Sequence[Candidate], progress: Progress) -> Evaluation:
        """Answer the clips under `full` and the candidates."""
        number = len(self.evaluations) + 1

        def tick(step: str, done: int, total: int) -> None:
            progress(f"round {number}, {len(candidates)} candidates", done, total)

        names = [candidate.name for candidate in candidates]
        found = checked(self._trials.evaluate(f"round-{number}", self._clips, names, tick))
        self.evaluations.append(found)
        return found


def checked(evaluation: Evaluation) -> Evaluation:
    """An evaluation of the search half that tells what profiles lose.

    Raises:
        RequestError: as `losses_fault` says; with the remedy.
    """
    if fault := losses_fault(evaluation):
        lost = f"the search half cannot tell what profiles lose, for {fault}"
        raise RequestError(f"{lost}; then start again with --restart")
    return evaluation


def losses_fault(evaluation: Evaluation) -> str | None:
    """Why an evaluation cannot tell what profiles lose in the first metric of its task; None where it can."""
    if fault := unanswered(evaluation) or fault_of(evaluation):
        return fault
    figures = (scores.figures[0] for scores in evaluation.profiles[1:])
    missing = next((figure for figure in figures if loss_of(figure) is None), None)
    return None if missing is None else f"{missing.metric.title}: {missing.reason or 'not computed'}"


def is_within(loss: Loss, budget: float) -> bool:
    """Whether the point estimate keeps the budget."""
    return loss.value <= budget + ROUNDING


def mean_kv_bytes(dims: DecoderDims, answers: Sequence[ClipAnswers], profile: str) -> float:
    """Bytes of the prompt's keys and values in float32, over the clips that every profile has answered."""
    layers = dims.num_layers
    rows = [
        layers * ((found.text_rows or 0) + found.answers[profile].kept_ratio * (found.audio_rows or 0))
        for found in answers
        if found.is_complete
    ]
    return fmean(rows) * kv_bytes(dims, [1], FLOAT32_BYTES)
