"""From result files to the figures that an artifact holds: what they say of it, or why they do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import PurePath
from typing import Any

from ...profiles.errors import ResultsError
from ...profiles.profile import parse_profile
from ...runtime.artifact.manifest import Manifest
from ...runtime.benchmark.records import Benchmark
from ...runtime.choice.figures import Accuracy, Latency, Loss, Machine, MeasuredClips, Timed
from ...runtime.choice.prediction import in_order
from ..options import ENOUGH_RESAMPLES
from ..results.evaluation import EvaluationResult
from ..results.files import Result, ResultFile
from ..results.tuning import HeldOutResult, TuningResult
from .first import first_fault
from .gate import judged

TIMED = "decoder_ms"  # of a benchmark: prefill and decode
SUMMARY = "the figures cannot be taken in"


def accuracy_of(manifest: Manifest, files: Sequence[ResultFile[Result]], least_recordings: int) -> Accuracy:
    """What files of `eval` and `tune` say of the profiles of an artifact.

    Args:
        manifest: of the artifact.
        files: one at least, all of the same clips.
        least_recordings: with fewer recordings, no profile is accepted.

    Raises:
        ResultsError: with every file that says nothing of this artifact, and why.
    """
    found: list[Accuracy] = []
    faults: list[str] = []
    for file in files:
        try:
            found.append(_accuracy(manifest, file.found, least_recordings))
        except _OfAnotherError as error:
            faults.append(f"{file.name}: {error}")
    if not faults:
        faults += _contradictions(files, found)
    if faults:
        raise ResultsError(SUMMARY, faults)
    losses = {profile: loss for each in found for profile, loss in each.losses.items()}
    return replace(found[0], losses=losses)


def latency_of(manifest: Manifest, file: ResultFile[Result]) -> Latency:
    """What a file of `bench` says of the profiles of an artifact; errors as `accuracy_of`."""
    try:
        return _latency(manifest, file.found)
    except _OfAnotherError as error:
        raise ResultsError(SUMMARY, [f"{file.name}: {error}"]) from None


class _OfAnotherError(ValueError):
    """A file that says nothing of the artifact."""


def _accuracy(manifest: Manifest, found: Result, least_recordings: int) -> Accuracy:
    if isinstance(found, EvaluationResult):
        losses, first, clips = _evaluated(manifest, found), found.profiles[0], found.clips
        metric, longest = found.metrics[0], found.longest_seconds
    elif isinstance(found, TuningResult):
        losses, held_out = _tuned(manifest, found)
        first, clips = held_out.profiles[0], held_out.clips
        metric, longest = found.metric, held_out.longest_seconds
    else:
        raise _OfAnotherError("it holds no accuracy; give a file of eval or tune")
    if failed := clips.count - clips.measured:
        raise _OfAnotherError(
            f"{failed} of {clips.count} clips failed, so its losses are of the others alone: mend those "
            "clips or leave them out of the list, and measure again"
        )
    if (resamples := found.intervals.resamples) < ENOUGH_RESAMPLES:
        raise _OfAnotherError(
            f"an interval of {resamples} resamples is too rough to judge by; measure again with --resamples "
            f"{ENOUGH_RESAMPLES} or more"
        )
    if fault := first_fault(found.task, metric, first, clips.measured):
        raise _OfAnotherError(f"it cannot tell what profiles lose, for {fault}")
    measured = MeasuredClips(_name(clips.source), clips.digest, clips.measured, clips.recordings, longest)
    return Accuracy(found.task, metric.title, first.profile, measured, least_recordings, losses)


def _evaluated(manifest: Manifest, found: EvaluationResult) -> dict[str, Loss]:
    """What each profile loses, in points."""
    _check_digest(manifest, found.artifact, "eval ART --manifest CLIPS --max-loss POINTS")
    if not found.metrics or not found.clips.measured:
        raise _OfAnotherError(
            "no clip was answered under every profile, so it has no figures; evaluate other clips"
        )
    if found.max_loss is None:
        raise _OfAnotherError("it has no budget; evaluate with --max-loss or --max-wer-increase")
    losses = {each.profile: each.loss for each in judged(found)}
    known = {profile: loss for profile, loss in losses.items() if loss is not None}
    if missing := [profile for profile in losses if profile not in known]:
        raise _OfAnotherError(f"profile {missing[0]} has no figure of {found.metrics[0].title}")
    return known


def _tuned(manifest: Manifest, found: TuningResult) -> tuple[dict[str, Loss], HeldOutResult]:
    """What the choice of a tuning loses, under the names that it has in the artifact; and what judged it."""
    if found.profile is None:
        raise _OfAnotherError(f"it chose no profile ({found.reason})")
    if found.held_out is None:
        raise _OfAnotherError(f"its choice was not judged ({found.reason})")
    shared = found.checkpoint.get("shared")
    ours = [manifest.shared_digest(target) for target in manifest.graphs]
    if not isinstance(shared, list) or not any(digest in shared for digest in ours):
        raise _OfAnotherError(
            "it tuned another model, or one with weights in another format; measure this artifact with eval, "
            "or build as tune does: float32, the same --lora"
        )
    chosen = parse_profile(found.profile, "chosen", "the file")
    names = [
        name
        for name, resolved in manifest.profiles.items()
        if replace(resolved.profile, name=chosen.name) == chosen
    ]
    if not names and not found.held_out.within_budget:
        raise _OfAnotherError("the held-out half did not confirm its profile, so tune wrote none; tune again")
    if not names:
        raise _OfAnotherError("its profile is none of the artifact's; build with the .toml that tune wrote")
    half = replace(found.held_out.clips, source=f"{_name(found.held_out.clips.source)}, held-out half")
    scale, lost = found.metric.scale, found.held_out.loss.times(found.metric.scale)
    loss = Loss(lost.value, lost.low, lost.high, scale * found.max_loss)
    return dict.fromkeys(names, loss), replace(found.held_out, clips=half)


def _name(source: str) -> str:
    return PurePath(source).name or source


def _contradictions(files: Sequence[ResultFile[Result]], found: Sequence[Accuracy]) -> Iterator[str]:
    """Files of other clips or settings than the first, and profiles that are in two."""
    first, seen = found[0], dict[str, str]()
    for file, accuracy in zip(files, found, strict=True):
        if (accuracy.task, accuracy.metric, accuracy.clips.digest, accuracy.clips.count) != (
            *(first.task, first.metric, first.clips.digest, first.clips.count),
        ):
            yield (
                f"{file.name}: it is of other clips than {files[0].name}; losses are compared with each "
                "other, so measure all profiles on the same ones"
            )
        elif names := _other_settings(files[0].found, file.found):
            yield (
                f"{file.name}: it was measured with another {names} than {files[0].name}; losses are "
                "compared with each other, so measure all profiles with the same one"
            )
        for profile in accuracy.losses:
            if (other := seen.setdefault(profile, file.name)) != file.name:
                yield f"{file.name}: profile {profile} is in {other}, too; give one of them"


def _other_settings(first: Result, other: Result) -> str:
    """The names of what two files differ in, of all that answers and texts depend on."""
    assert isinstance(first, EvaluationResult | TuningResult), "it has given an accuracy"
    assert isinstance(other, EvaluationResult | TuningResult), "it has given an accuracy"
    one, two = asdict(first.settings), asdict(other.settings)
    return ", ".join(name.replace("_", " ") for name in one if one[name] != two[name])


def _latency(manifest: Manifest, found: Result) -> Latency:
    if not isinstance(found, Benchmark):
        raise _OfAnotherError("it holds no times of single requests; give a file of bench, without a load")
    _check_digest(manifest, found.artifact, "bench ART")
    if any(0 < case.runs < found.protocol.runs for case in found.results):
        raise _OfAnotherError("bench was stopped before all its rounds were done; measure again")
    times: dict[str, list[Timed]] = {}
    for case in found.results:
        if (median := case.median(TIMED)) is not None:
            times.setdefault(case.profile, []).append(Timed(case.beams, case.audio_seconds, median))
    if not times:
        raise _OfAnotherError("every length of audio was skipped; measure shorter ones")
    device = str(found.artifact.get("device", "an unknown device"))
    machine = Machine(device, found.environment.cpu, found.environment.threads)
    return Latency(machine, found.protocol.new_tokens, {name: in_order(each) for name, each in times.items()})


def _check_digest(manifest: Manifest, artifact: Mapping[str, Any], command: str) -> None:
    """Refuse figures of another artifact."""
    if artifact.get("digest") != manifest.digest:
        raise _OfAnotherError(
            f"it measured another artifact, or another build of it; measure this one: {command} -o FILE"
        )
