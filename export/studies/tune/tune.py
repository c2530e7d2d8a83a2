"""The search for a profile: the table of contents of `tune`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ....evaluation.clips.clip import ClipSet
from ....evaluation.evaluation import Progress
from ...checkpoint.checkpoint import Checkpoint
from ...model.families.family import load_model
from ..reference_request import mean_request
from ..trials import BASELINE, build_trials
from .choice import choose, finalists_of
from .halves import halves_of
from .ladders import Candidate, all_candidates, ladders_of
from .options import TuneOptions
from .rounds import Rounds, mean_kv_bytes
from .search import highest_feasible
from .timing import time_finalists
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
        ClipsError: too few audio files.
        ProfileError: nothing can be tried.
        RequestError: a half without an answered clip, or without a figure.
        As `build` and `evaluate`.
    """
    halves = halves_of(clips, options.evaluation.seed)
    model = load_model(source := Checkpoint(checkpoint))
    dims = model.decoder.dims
    reference = mean_request(source, model, halves.search.clips, options.reference_seconds)
    ladders = ladders_of(model, options, reference)
    profiles = [candidate.profile for candidate in all_candidates(ladders)]
    trials = build_trials(checkpoint, profiles, folder, options.evaluation, progress)
    rounds = Rounds(trials, halves.search, dims, options.max_loss)
    highest: list[Candidate | None] = highest_feasible(
        [ladder.candidates for ladder in ladders], partial(rounds.judge, progress=progress)
    )
    first, within = rounds.evaluations[0], [rounds.tried[found.name] for found in highest if found]
    timing = None
    if options.objective == "latency" and within:
        within = finalists_of(within)
        names = [tried.candidate.name for tried in within]
        timing = time_finalists(trials, names, first, float(reference.audio_seconds), options, progress)
    full_kv_bytes = mean_kv_bytes(dims, first.answers, BASELINE)
    choice = choose(options.objective, within, full_kv_bytes, timing)
    held_out = None
    if choice.tried is not None:
        name = choice.tried.candidate.name
        step = f"held-out half under {name}"
        held_out = trials.evaluate(
            "held-out", halves.held_out, [name], lambda _, done, total: progress(step, done, total)
        )
    return Tuning(
        checkpoint=model.identity(checkpoint),
        options=options,
        reference=reference,
        halves=halves,
        ladders=ladders,
        highest=tuple(highest),
        tried=rounds.tried,
        rounds=tuple(rounds.evaluations),
        full_kv_bytes=full_kv_bytes,
        timing=timing,
        choice=choice,
        held_out=held_out,
    )
