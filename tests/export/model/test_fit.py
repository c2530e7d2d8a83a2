"""Which families have a method that weighs rows by the encoder; the others are refused with their reason."""

from __future__ import annotations

from fractions import Fraction

import pytest

from fastadasp.evaluation.results.comparison import CellRecord
from fastadasp.export.check.check import check_artifact
from fastadasp.export.check.options import CheckOptions
from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.model.families.family import load_model
from fastadasp.export.model.fit import decoder_rows, resolve_for, row_weights_fault
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.export.studies.compare.grid import comparison_grid
from fastadasp.export.studies.compare.options import CompareOptions
from fastadasp.export.studies.compare.unmet import unmet
from fastadasp.export.studies.reference_request import ReferenceRequest
from fastadasp.profiles import Profile, ProfileError
from fastadasp.profiles.flops import RATIO_GRID, flops_reduction
from fastadasp.runtime.artifact.artifact import open_artifact
from tiny_families import TINY
from torch_wavllm import TorchWavLLM

pytestmark = pytest.mark.usefixtures("one_thread")
MAPPED = Profile("mapped", "sa_map", "input", ratio=Fraction(1, 3))
TAKEN = ("audioflamingo3", "aero")
REFUSED = {
    **dict.fromkeys(("voxtral", "glmasr", "qwen3_asr"), "is not the mean of 2 rows of the encoder"),
    "qwen2_5_omni": "attend to those of their own block alone",
}


@pytest.mark.parametrize("name", sorted(TINY))
@pytest.mark.parametrize("before", [False, True])
def test_a_ratio_is_the_smallest_that_meets_its_target_on_the_rows_of_a_request(name, before, tmp_path):
    TINY[name].save(tmp_path)
    model = load_model(Checkpoint(tmp_path))
    profile = Profile(
        "half",
        "weighted_merge",
        "constant",
        1,
        flops_reduction=Fraction(1, 5),
        reference_audio_seconds=Fraction(5),
        include_audio_bos=before,
    )
    found = resolve_for(profile, model)
    rows = model.front_end.parted(decoder_rows(model, 5.0), profile.reference_text_tokens, profile)

    def removed(ratio: Fraction) -> Fraction:
        ratios = tuple(ratio if own else own for own in found.ratios)
        return flops_reduction(model.decoder.dims, *rows, ratios)

    assert removed(found.ratio - Fraction(1, RATIO_GRID)) < Fraction(1, 5) <= removed(found.ratio)


@pytest.mark.parametrize("name", TAKEN)
def test_encoders_of_pooled_pairs_agree_with_transformers(name, tmp_path):
    TINY[name].save(tmp_path / "checkpoint")
    build(tmp_path / "checkpoint", tmp_path / "artifact", BuildOptions((MAPPED,), weights="copy"))
    verdicts = check_artifact(open_artifact(tmp_path / "artifact"), CheckOptions())
    assert {verdict.graph.kind for verdict in verdicts} == {"encoder", "prefill", "decode"}
    assert all(verdict.finding.passed for verdict in verdicts)


@pytest.mark.parametrize("name", sorted(TINY.keys() - set(TAKEN)))
def test_other_families_are_refused_by_name(name, tmp_path):
    TINY[name].save(tmp_path)
    model = load_model(Checkpoint(tmp_path))
    reason = REFUSED.get(name, "has another kind of encoder than Whisper's")
    with pytest.raises(ProfileError, match=rf"profile mapped \(sa_map\): it weighs rows by the .*{reason}"):
        resolve_for(MAPPED, model)


def test_a_tower_with_a_second_encoder_is_refused_before_anything_is_written(tmp_path):
    TorchWavLLM(seed=5).save(tmp_path / "checkpoint")
    with pytest.raises(
        ProfileError, match="has another kind of encoder than Whisper's; choose another method"
    ):
        build(tmp_path / "checkpoint", tmp_path / "artifact", BuildOptions((MAPPED,), weights="copy"))
    assert not (tmp_path / "artifact").exists()


def test_a_comparison_says_why_a_method_has_no_figures(tmp_path):
    TINY["voxtral"].save(tmp_path)
    model = load_model(Checkpoint(tmp_path))
    reference = ReferenceRequest(Fraction(2), 20, 7)
    (row,) = comparison_grid(model, CompareOptions(methods=("sa_map",), schedules=("input",)), reference)
    assert not any(cell.profiles for cell in row.cells)
    assert {unmet(row, cell, CellRecord(cell.level, (), ()), None) for cell in row.cells} == {
        row_weights_fault(model)
    }
