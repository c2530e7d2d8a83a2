"""What a profile saves, where an encoder sets rows around the audio that no reduction removes."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest

from fastadasp.evaluation.answers.answers import Answer, ClipAnswers
from fastadasp.evaluation.clips.clip import Clip, ClipSet
from fastadasp.evaluation.figures.profile_scores import score_profiles
from fastadasp.evaluation.options import EvalOptions
from fastadasp.profiles.flops import DecoderDims, ResolvedProfile, flops_reduction, resolve
from fastadasp.profiles.profile import Profile
from fastadasp.runtime.audio.front_end import FrontEnd
from fastadasp.runtime.audio.log_mel import LogMelConfig

DIMS, TOKENS, TEXT = DecoderDims(4, 64, 4, 2, 16, 128, 400), 40, 5
HALF = Profile("half", "weighted_merge", "constant", ratio=Fraction(1, 2))


def saved(resolved: ResolvedProfile, front_end: FrontEnd) -> float | None:
    """The FLOPs that a profile is said to save on one clip of `TOKENS` audio tokens."""
    manifest = SimpleNamespace(
        decoder=SimpleNamespace(dims=DIMS), front_end=front_end, profiles={"half": resolved}
    )
    clips = ClipSet(Path("clips.jsonl"), "qa", (Clip("a", 1, "a", Path("a"), "qa", ("yes",)),))
    answers = {"half": Answer("yes", 1, finished=True, kept_ratio=0.5)}
    found = [ClipAnswers("a", TOKENS + front_end.rows_around, TEXT, answers)]
    (scores,) = score_profiles(manifest, clips, found, ["half"], EvalOptions(resamples=1))
    return scores.flops_reduction


@pytest.mark.parametrize(
    ("around", "before", "span", "others"),
    [(0, False, TOKENS, TEXT), (1, False, TOKENS, TEXT + 2), (1, True, TOKENS + 1, TEXT + 1)],
)
def test_flops_are_saved_on_the_rows_that_the_profile_reduces(around, before, span, others):
    front_end = FrontEnd(LogMelConfig(), rows_per_token=2, bos_rows=around, eos_rows=around)
    resolved = resolve(replace(HALF, include_audio_bos=before), DIMS, TOKENS)
    expected = float(flops_reduction(DIMS, span, others, resolved.ratios))
    assert saved(resolved, front_end) == expected


def flops(rows: int) -> int:
    """Of a prefill of so many rows in each of the four layers, by hand."""
    return 4 * (73_728 * rows + 256 * rows**2) + 51_200


@pytest.mark.parametrize(
    ("method", "schedule", "expected"),
    [
        ("h2o", "constant", 0.0),
        ("average_merge", "input", 1 - flops(TOKENS // 2 + TEXT) / flops(TOKENS + TEXT)),
        ("a_tome", "constant", None),
    ],
)
def test_what_is_saved_is_nothing_of_caches_and_all_at_the_input_and_unknown_where_the_data_decides(
    method, schedule, expected
):
    resolved = resolve(replace(HALF, method=method, schedule=schedule), DIMS, TOKENS)
    assert saved(resolved, FrontEnd(LogMelConfig(), rows_per_token=2)) == pytest.approx(expected)
