"""A tuning as its result file holds it."""

from __future__ import annotations

from ....evaluation.recorded import (
    answer_settings,
    intervals,
    loss_estimate,
    profile_figures,
)
from ....evaluation.result import measured_clips
from ....evaluation.results.tuning import (
    CandidateRecord,
    HalvesRecord,
    HeldOutResult,
    LadderRecord,
    TuningProtocol,
    TuningResult,
)
from ....profiles.profile import profile_to_toml
from .ladders import Candidate, Ladder
from .rounds import Tried
from .tuning import Tuning

BISECTION = "losses are taken to grow with the level; within the budget: by the point estimate"


def tuning_result(tuning: Tuning) -> TuningResult:
    """The record; what there is none of is None."""
    first, options, chosen = tuning.rounds[0], tuning.options, tuning.profile
    return TuningResult(
        task=first.clips.task,
        checkpoint={**tuning.checkpoint, "shared": first.artifact["shared"]},
        max_loss=options.max_loss / tuning.metric.scale,
        objective=options.objective,
        seed=options.evaluation.seed,
        clips=measured_clips(first),
        halves=_halves(tuning),
        protocol=_protocol(tuning),
        settings=answer_settings(options.evaluation, first.clips.task),
        intervals=intervals(options.evaluation.bootstrap),
        metrics=tuple(figure.metric for figure in tuning.full.figures),
        full=profile_figures(tuning.full),
        full_kv_bytes=tuning.full_kv_bytes,
        ladders=tuple(map(_ladder, tuning.ladders, tuning.highest)),
        candidates=tuple(_candidate(tuning, tried) for tried in tuning.tried.values()),
        timing=None if tuning.timing is None else tuning.timing.benchmark,
        choice=tuning.choice.tried.candidate.name if tuning.choice.tried else None,
        profile=None if chosen is None else profile_to_toml(chosen),
        reason=tuning.choice.reason or tuning.doubt,
        held_out=_held_out(tuning),
        failures=tuning.failures,
        environment=first.environment,
    )


def _halves(tuning: Tuning) -> HalvesRecord:
    search, held_out = (
        tuple(clip.id for clip in half.clips) for half in (tuning.halves.search, tuning.halves.held_out)
    )
    return HalvesRecord(search, held_out)


def _protocol(tuning: Tuning) -> TuningProtocol:
    options, reference = tuning.options, tuning.reference
    return TuningProtocol(
        positions=options.positions,
        levels=tuple(sorted(options.levels)),
        reference_audio_seconds=float(reference.audio_seconds),
        reference_text_rows=reference.text_rows,
        bisection=BISECTION,
    )


def _ladder(ladder: Ladder, highest: Candidate | None) -> LadderRecord:
    return LadderRecord(
        method=ladder.method,
        schedule=ladder.schedule,
        start_layer=ladder.start_layer,
        positions=ladder.positions,
        reachable=tuple(candidate.level for candidate in ladder.candidates),
        unreachable=ladder.unreachable,
        highest=None if highest is None else highest.name,
    )


def _candidate(tuning: Tuning, tried: Tried) -> CandidateRecord:
    profile = tried.candidate.profile
    return CandidateRecord(
        name=profile.name,
        method=profile.method,
        schedule=profile.schedule,
        start_layer=profile.start_layer,
        positions=profile.positions,
        level=tried.candidate.level,
        toml=profile_to_toml(profile),
        round=tried.round,
        scores=profile_figures(tried.scores),
        kv_bytes=tried.kv_bytes,
        loss=loss_estimate(tuning.metric, tried.loss),
        feasible=tried.feasible,
    )


def _held_out(tuning: Tuning) -> HeldOutResult | None:
    found = tuning.held_out
    if found is None or tuning.loss is None:
        return None
    full, chosen = map(profile_figures, found.profiles)
    loss = loss_estimate(tuning.metric, tuning.loss)
    return HeldOutResult(
        measured_clips(found), found.longest_seconds, (full, chosen), loss, tuning.is_confirmed
    )
