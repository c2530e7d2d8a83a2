"""What the settings of the first Qwen-Audio say of prompts beyond its training length."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from fastadasp.export.adapt import with_positions
from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.cli import main
from fastadasp.export.model.families.family import load_model
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles.errors import CheckpointError
from fastadasp.profiles.long_context import LongContext
from fastadasp.profiles.profile import Profile
from fastadasp.runtime import SpeechLM
from golden_folder import CONFIG, setting, write_golden

OFF = {"use_dynamic_ntk": False, "use_logn_attn": False}
INPUTS = {"rope_alpha", "rows_before_eviction"}


@pytest.fixture
def loaded(tmp_path):
    """Loads the model with other settings; None takes one away."""

    def load(**changes):
        write_golden(tmp_path / "checkpoint", [setting("full")])
        config = {key: value for key, value in {**CONFIG, **changes}.items() if value is not None}
        (tmp_path / "checkpoint" / "config.json").write_text(json.dumps(config), "utf-8")
        return load_model(Checkpoint(tmp_path / "checkpoint"))

    return load


def test_absent_settings_are_those_of_the_published_code(loaded):
    model = loaded(use_dynamic_ntk=None, use_logn_attn=None, max_position_embeddings=None)
    assert model.decoder.long_context == LongContext(64, dynamic_ntk=True, log_n=True)
    assert model.decoder.max_positions == 8192


@pytest.mark.parametrize(
    ("changes", "positions"),
    [({}, 100_000), ({"use_logn_attn": True}, 32767), ({"use_dynamic_ntk": True}, 100_000)],
)
def test_positions_end_where_the_factors_of_log_n_do(loaded, changes, positions):
    model = loaded(**{**OFF, **changes}, max_position_embeddings=100_000)
    assert model.decoder.max_positions == positions


def test_no_build_goes_beyond_the_factors_of_log_n(loaded):
    model = loaded()
    assert with_positions(model, 32767).decoder.max_positions == 32767
    with pytest.raises(CheckpointError, match=r"give at most 32767, where the factors of log-n end"):
        with_positions(model, 32768)
    without = replace(model.decoder, long_context=LongContext(64, dynamic_ntk=True, log_n=False))
    assert with_positions(replace(model, decoder=without), 32768).decoder.max_positions == 32768


def test_a_model_without_either_runs_on_and_says_so(loaded):
    model = loaded(**OFF)
    assert model.decoder.long_context is None
    assert model.decoder.max_positions == 256
    (note,) = (note for note in model.notes if "use_logn_attn" in note)
    assert "more rows than seq_length 64 run at positions that the model was not trained on" in note


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_dynamic_ntk": 1}, "use_dynamic_ntk is 1, true or false is expected"),
        ({"seq_length": 1}, "seq_length 1 is too small for use_logn_attn"),
        ({"kv_channels": 2}, "kv_channels 2 is too small for use_dynamic_ntk"),
    ],
)
def test_settings_that_have_no_meaning_are_refused(loaded, changes, message):
    with pytest.raises(CheckpointError, match=message):
        loaded(**changes)


def test_what_is_off_leaves_no_trace_and_what_is_on_none_in_the_numbers_of_a_short_prompt(loaded, tmp_path):
    scores = []
    for name, changes in (("on", {}), ("off", OFF)):
        loaded(**changes) if name == "on" else edit(tmp_path, changes)
        build(
            tmp_path / "checkpoint",
            tmp_path / name,
            BuildOptions((Profile("full", "full"),), weights="copy"),
        )
        for file, expected in (("prefill.full.onnx", {"rope_alpha"}), ("decode.onnx", INPUTS)):
            graph = onnx.load(tmp_path / name / file, load_external_data=False).graph
            assert {each.name for each in graph.input} & INPUTS == (expected if name == "on" else set())
            assert any("log_n" in node.name for node in graph.node) is (name == "on")
        rows = np.random.default_rng(0).standard_normal((40, CONFIG["hidden_size"])).astype(np.float32)
        decoder = SpeechLM.load(tmp_path / name).decoder("full", np.array([1, 2]), rows, np.array([3]))
        scores.append([decoder.start(60).logits, decoder.step(np.array([7]), np.array([0]), 60).logits])
    np.testing.assert_array_equal(*scores)
    said = [CliRunner().invoke(main, ["inspect", str(tmp_path / name)]).output for name in ("on", "off")]
    assert ["dynamic NTK and log-n beyond 64 rows" in text for text in said] == [True, False]


def edit(tmp_path, changes):
    (tmp_path / "checkpoint" / "config.json").write_text(json.dumps({**CONFIG, **changes}), "utf-8")
