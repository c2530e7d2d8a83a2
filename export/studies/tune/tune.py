"""The search for a profile: the table of contents of `tune`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ....evaluation.answering import Progress
from ....evaluation.clips.clip import ClipSet
from ....evaluation.evaluation import Evaluation
from ....profiles.methods import FULL
from ...adapt import load_adapted
from ..reference_request import mean_request
from ..trials import Trials, build_trials
from .choice import Choice, choose, finalists_of
from .halves import halves_of
from .ladders import Candidate, Ladder, all_candidates, ladders_of
from .options import LATENCY, TuneOptions
from .rounds import Rounds, Tried, mean_kv_bytes
from .search import highest_feasible
from .timing import Timing, time_finalists
from .tuning import Tuning


def tune(
    checkpoint: Path,
    clips: ClipSet,
    options: TuneOptions,
    folder: Path,
    progress: Progress = lambda *_: None,
) -> Tuning:
    """Search for the best profile within the budget on one half of the clips, and judge it on the other.

    The held-out half is looked at once, after the choice; whatever it says, no other profile is chosen.

    Args:
        checkpoint: folder with config.json and safetensors.
        clips: of one task, as `read_clips` gives them.
        options: budget, objective, what is searched.
        folder: for the artifact, the journals and the times. With the same one and the same settings the
            search goes on where it was stopped, and ends with the same choice.
        progress: told how far it is.

    Raises:
        ClipsError: too few recordings.
        ProfileError: nothing can be tried.
        RequestError: a search half without an answered clip, without a figure, or that `full` hardly answers.
        As `build` and `evaluate`.
    """
    halves = halves_of(clips, options.evaluation.seed)
    source, model = load_adapted(checkpoint, options.lora)
    options = replace(
        options, evaluation=options.evaluation.resolved(model.generation, model.decoder.dims.vocab_size)
    )
    reference = mean_request(source, model, halves.search.clips, options.reference_seconds)
    ladders = ladders_of(model, options, reference)
    profiles = [candidate.profile for candidate in all_candidates(ladders)]
    trials = build_trials(checkpoint, profiles, folder, options.evaluation, progress, options.lora)
    rounds = Rounds(trials, halves.search, model.decoder.dims, options.max_loss)
    highest = _highest(ladders, rounds, progress)
    within = _within(options, rounds, highest)
    timing = _timing(options, trials, rounds, within, float(reference.audio_seconds), progress)
    full_kv_bytes = mean_kv_bytes(model.decoder.dims, rounds.evaluations[0].answers, FULL)
    choice = choose(options.objective, within, full_kv_bytes, timing)
    held_out = _verdict(choice, trials, halves.held_out, progress)
    return Tuning(
        checkpoint=model.identity(checkpoint),
        options=options,
        reference=reference,
        halves=halves,
        ladders=ladders,
        highest=highest,
        tried=rounds.tried,
        rounds=tuple(rounds.evaluations),
        full_kv_bytes=full_kv_bytes,
        timing=timing,
        choice=choice,
        held_out=held_out,
    )


def _highest(ladders: Sequence[Ladder], rounds: Rounds, progress: Progress) -> tuple[Candidate | None, ...]:
    """The highest candidate within the budget, of each ladder."""
    rungs = [ladder.candidates for ladder in ladders]
    return tuple(highest_feasible(rungs, partial(rounds.judge, progress=progress)))


def _within(options: TuneOptions, rounds: Rounds, highest: Sequence[Candidate | None]) -> list[Tried]:
    """What is chosen from: the highest of all ladders, of which few are worth the time of timing them."""
    within = [rounds.tried[found.name] for found in highest if found]
    return finalists_of(within) if options.objective == LATENCY else within


def _timing(
    options: TuneOptions,
    trials: Trials,
    rounds: Rounds,
    finalists: Sequence[Tried],
    seconds: float,
    progress: Progress,
) -> Timing | None:
    """How long the finalists take, on so many seconds of audio, where that is the objective."""
    if options.objective != LATENCY or not finalists:
        return None
    names = [tried.candidate.name for tried in finalists]
    return time_finalists(trials, names, rounds.evaluations[0], seconds, options, progress)


def _verdict(choice: Choice, trials: Trials, held_out: ClipSet, progress: Progress) -> Evaluation | None:
    """The chosen candidate on clips that had no part in the choice."""
    if choice.tried is None:
        return None
    name = choice.tried.candidate.name

    def tick(_: str, done: int, total: int) -> None:
        progress(f"held-out half under {name}", done, total)

    return trials.evaluate("held-out", held_out, [name], tick)
