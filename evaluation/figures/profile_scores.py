"""What each profile of an artifact does to the clips that all of them have answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from statistics import fmean

from ...profiles.flops import flops_reduction
from ...runtime.artifact.manifest import Manifest
from ..answers.answers import ClipAnswers
from ..clips.clip import ClipSet
from ..options import EvalOptions
from .scores import Figure, score
from .token_loss import token_loss


@dataclass(frozen=True)
class ProfileScores:
    """One profile. Where no clip is measured there are no figures."""

    profile: str
    figures: tuple[Figure, ...]
    kept_ratio: float | None  # mean over the clips
    flops_reduction: float | None  # share of the prefill's at their mean length; None where the data decides
    cut_off: int  # answers that max_new_tokens ended


def score_profiles(
    manifest: Manifest,
    clips: ClipSet,
    answers: Sequence[ClipAnswers],
    profiles: Sequence[str],
    options: EvalOptions,
) -> tuple[ProfileScores, ...]:
    """Measure the answers of every profile; `answers` are those of the clips, in their order."""
    complete = [found.is_complete for found in answers]
    measured = list(compress(answers, complete))
    figures = score(
        clips.task,
        [clip.references for clip in compress(clips.clips, complete)],
        {profile: [found.answers[profile].text for found in measured] for profile in profiles},
        recordings=list(compress(clips.recordings, complete)),
        languages=clips.languages,
        normalizer=options.normalizer,
        bootstrap=options.bootstrap,
        further={profile: token_loss([found.answers[profile] for found in measured]) for profile in profiles},
    )
    return tuple(_scores(manifest, profile, figures[profile], measured) for profile in profiles)


def _scores(
    manifest: Manifest, profile: str, figures: tuple[Figure, ...], measured: Sequence[ClipAnswers]
) -> ProfileScores:
    answers = [found.answers[profile] for found in measured]
    return ProfileScores(
        profile,
        figures,
        kept_ratio=fmean(answer.kept_ratio for answer in answers) if answers else None,
        flops_reduction=_flops_reduction(manifest, profile, measured),
        cut_off=sum(not answer.finished for answer in answers),
    )


def _flops_reduction(manifest: Manifest, profile: str, measured: Sequence[ClipAnswers]) -> float | None:
    resolved = manifest.profiles[profile]
    if not measured or not resolved.has_static_lengths:
        return None
    audio_rows = round(fmean(found.audio_rows or 0 for found in measured))
    text_rows = round(fmean(found.text_rows or 0 for found in measured))
    rows = manifest.front_end.parted(audio_rows, text_rows, resolved.profile)
    shares = resolved.row_ratios, resolved.input_ratio
    return float(flops_reduction(manifest.decoder.dims, *rows, *shares))
