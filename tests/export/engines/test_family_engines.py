"""Engines of every family, for an A100 on any machine: encoder, decode step and prefill."""

from __future__ import annotations

from fractions import Fraction

import pytest

from fastadasp.export.options import BuildOptions, EngineOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import Profile
from fastadasp.runtime.artifact.artifact import open_artifact
from golden_folder import CONFIG, setting, write_golden
from tiny_families import TINY

LIMITS = EngineOptions(max_audio_seconds=6, max_beams=2, max_text_rows=64, max_new_tokens=16, sm=80)


@pytest.mark.parametrize("family", TINY)
def test_every_graph_of_the_family_becomes_a_plan(family, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="engines need the extra tensorrt-rtx")
    TINY[family].save(tmp_path / "checkpoint")
    options = BuildOptions((Profile("full", "full"),), engines=LIMITS)
    build(tmp_path / "checkpoint", tmp_path / "artifact", options)
    manifest = open_artifact(tmp_path / "artifact").manifest
    engines = manifest.engines
    assert engines is not None
    assert engines.plans.keys() == {"encoder", "decode", "prefill.full"}
    samples = 6 * manifest.front_end.log_mel.sample_rate
    assert engines.max_audio_rows == manifest.front_end.decoder_rows(samples)


def test_a_long_context_becomes_plans(tmp_path):
    """Qwen-Audio, whose graphs also take a factor of the rotary base and the rows before eviction."""
    pytest.importorskip("tensorrt_rtx", reason="engines need the extra tensorrt-rtx")
    audio = {**CONFIG["audio"], "n_state": 32}  # with heads of 8 no plan comes out without a GPU
    write_golden(tmp_path / "checkpoint", [setting("full")], config={**CONFIG, "audio": audio})
    profiles = Profile("full", "full"), Profile("half", "fastv", "single", 1, ratio=Fraction(1, 2))
    build(tmp_path / "checkpoint", tmp_path / "artifact", BuildOptions(profiles, engines=LIMITS))
    manifest = open_artifact(tmp_path / "artifact").manifest
    assert manifest.decoder.long_context is not None
    assert manifest.engines.plans.keys() == {"encoder", "decode", "prefill.full", "prefill.half"}
