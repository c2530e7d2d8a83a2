"""The command `check` against recordings of its own form, made by a forward that shares no code with ours."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from fastadasp.export.check.recordings.golden import ATOL, RECORDED, check_golden
from fastadasp.export.cli import main
from fastadasp.profiles.errors import DependencyError
from golden_folder import CONFIG, SETTINGS, setting, write_golden

OTHERS = "FASTADASP_GOLDEN"
FEW = (
    setting("full"),
    setting("merge_weighted", "constant", 1, 0.2),
    setting("fastv_evict", "decay", 0, 0.3),
)
CHANGED = 1  # the setting of `FEW` whose recording the tests change
ALIGNMENT_ATOL = 1e-4  # of logits: positions from 0 in every layer against those of the definition

Entry = dict[str, Any]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every method under every schedule."""
    folder = tmp_path_factory.mktemp("golden") / "all"
    write_golden(folder)
    return folder


def test_every_method_that_may_be_recorded_is() -> None:
    assert [entry for entry in RECORDED if entry in {one["method"] for one in SETTINGS}] == list(RECORDED)


@pytest.fixture(scope="module")
def recorded_few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden") / "few"
    write_golden(folder, FEW)
    return folder


@pytest.fixture
def own(recorded_few: Path, tmp_path: Path) -> Path:
    """A recording of a few settings that a test may damage."""
    return Path(shutil.copytree(recorded_few, tmp_path / "golden"))


def check(folder: Path, checkpoint: Path | None = None) -> tuple[int, list[str]]:
    """The exit code and the lines of `check`, within this process."""
    checkpoints = [str(checkpoint)] if checkpoint else []
    result = CliRunner().invoke(main, ["check", *checkpoints, "--golden", str(folder)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output.splitlines()


def fault(folder: Path) -> str:
    """The one line of a check that cannot begin."""
    exit_code, lines = check(folder)
    assert exit_code == 2, lines
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"Error: recorded outputs {folder}: ")
    return lines[0]


def failed(folder: Path) -> list[str]:
    """The settings that do not agree; the exit code and the last line must say so, too."""
    exit_code, lines = check(folder)
    names = [line for line in lines[:-1] if line.startswith("FAIL")]
    assert exit_code == 1, lines
    assert len(lines) == len(FEW) + 1
    assert lines[-1].startswith(f"{len(FEW) - len(names)} of {len(FEW)} settings agree")
    return names


def edit(folder: Path, change: Callable[[Entry], object]) -> None:
    """Change golden.json."""
    path = folder / "golden.json"
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")


def edit_setting(folder: Path, **values: object) -> None:
    edit(folder, lambda content: content["settings"][CHANGED].update(values))


def edit_arrays(file: Path, change: Callable[[dict[str, np.ndarray[Any, Any]]], object]) -> None:
    arrays = load_file(file)
    change(arrays)
    save_file(arrays, file)


def recorded_setting(folder: Path) -> Entry:
    content: Entry = json.loads((folder / "golden.json").read_text("utf-8"))["settings"][CHANGED]
    return content


# Agreement


def test_every_method_and_schedule_agrees_and_has_its_line(recorded: Path) -> None:
    exit_code, lines = check(recorded)
    assert exit_code == 0, lines
    for i, one in enumerate(SETTINGS):
        label = f"{one['method']} {one['schedule']} start {one['start_layer']} ratio {one['ratio']}  "
        assert lines[i].startswith(f"ok   {i:2}  {label}")
    assert lines[len(SETTINGS) :] == [
        f"{len(SETTINGS)} of {len(SETTINGS)} settings agree: "
        "KV lengths and tokens identical, logits within 0.005"
    ]


def test_rows_at_the_left_end_of_the_positions_equal_rows_at_the_right_end(recorded: Path) -> None:
    results = check_golden(recorded, recorded, atol=ALIGNMENT_ATOL)
    assert [result.passed for result in results] == [True] * len(SETTINGS)


def test_another_checkpoint_takes_the_place_of_the_folder(recorded_few: Path, own: Path) -> None:
    (own / "model.safetensors").unlink()
    assert check(own, recorded_few)[0] == 0


def test_no_setting_of_the_recording_is_trivial(recorded: Path) -> None:
    """Each reduction keeps other lengths or other values than every other setting, h2o in its steps."""
    arrays = load_file(recorded / "golden.safetensors")
    logits = [arrays[f"logits.{i}"] for i in range(len(SETTINGS))]
    of_rows = [each for each, one in zip(logits, SETTINGS, strict=True) if one["method"] != "kv_evict"]
    distances = [np.abs(a[0] - b[0]).max() for i, a in enumerate(of_rows) for b in of_rows[:i]]
    assert min(distances) > 2 * ATOL
    assert min(np.abs(logits[-1][1] - other[1]).max() for other in of_rows) > 2 * ATOL


@pytest.mark.skipif(OTHERS not in os.environ, reason=f"{OTHERS} names no folder of further recordings")
def test_further_recordings_agree() -> None:
    """In each of the folders, or anywhere below it."""
    for place in map(Path, os.environ[OTHERS].split(os.pathsep)):
        folders = sorted(path.parent for path in place.rglob("golden.json"))
        assert folders, f"nothing in {place} holds a golden.json"
        for folder in folders:
            exit_code, lines = check(folder)
            assert exit_code == 0, "\n".join([str(folder), *lines])


# Disagreement


@pytest.mark.parametrize("step", [0, -1])
def test_one_logit_beyond_the_tolerance_is_found(own: Path, step: int) -> None:
    def change(arrays: dict[str, np.ndarray[Any, Any]]) -> None:
        row = arrays[f"logits.{CHANGED}"][step]
        row[row.argmin()] -= 1.1 * ATOL

    edit_arrays(own / "golden.safetensors", change)
    (line,) = failed(own)
    assert "merge_weighted constant start 1 ratio 0.2" in line
    assert line.endswith("logits 5.5e-03, above 0.005")


def test_another_last_token_is_found(own: Path) -> None:
    *tokens, last = recorded_setting(own)["tokens"]
    edit_setting(own, tokens=[*tokens, (last + 1) % CONFIG["vocab_size"]])
    (line,) = failed(own)
    assert "merge_weighted constant start 1 ratio 0.2" in line
    assert line.endswith(", tokens differ")
    assert "above" not in line


def test_another_first_token_changes_the_logits_after_it(own: Path) -> None:
    first, *tokens = recorded_setting(own)["tokens"]
    edit_setting(own, tokens=[(first + 1) % CONFIG["vocab_size"], *tokens])
    (line,) = failed(own)
    assert line.endswith(", tokens differ, above 0.005")


@pytest.mark.parametrize("layer", [0, 5])
def test_another_kv_length_of_one_layer_is_found(own: Path, layer: int) -> None:
    lengths = recorded_setting(own)["kv_lengths"]
    lengths[layer] += 1
    edit_setting(own, kv_lengths=lengths)
    (line,) = failed(own)
    assert "merge_weighted constant start 1 ratio 0.2" in line
    assert line.endswith(", KV lengths differ")


@pytest.mark.parametrize("method", ["merge_ave", "atome", "fastv_evict"])
def test_the_recording_of_another_method_is_found(own: Path, method: str) -> None:
    edit_setting(own, method=method)
    (line,) = failed(own)
    assert f"{method} constant start 1 ratio 0.2" in line


@pytest.mark.parametrize(
    "values", [{"start_layer": 2}, {"schedule": "decay"}, {"schedule": "none"}, {"ratio": 0.25}]
)
def test_another_place_or_amount_of_the_reduction_is_found(own: Path, values: Entry) -> None:
    edit_setting(own, **values)
    (line,) = failed(own)
    assert "KV lengths differ" in line


@pytest.mark.parametrize(
    "name",
    [
        "lm_head.weight",
        "transformer.h.0.mlp.w2.weight",
        "transformer.h.5.attn.c_attn.bias",
        "transformer.audio.audio_bos_eos_token.weight",
        "transformer.audio.blocks.1.attn.key.weight",
    ],
)
def test_another_weight_fails_every_setting(own: Path, name: str) -> None:
    def change(weights: dict[str, np.ndarray[Any, Any]]) -> None:
        weights[name] += 0.2 * np.random.default_rng(1).standard_normal(weights[name].shape, np.float32)

    edit_arrays(own / "model.safetensors", change)
    assert len(failed(own)) == len(FEW)


def test_the_frame_after_an_odd_number_of_frames_is_read_and_no_later_one(own: Path) -> None:
    """The convolution sees an even number of frames: one of the padding, where the audio's are odd."""
    path = own / "golden.safetensors"
    frames = json.loads((own / "golden.json").read_text("utf-8"))["config"]["mel_frames"]
    assert frames % 2
    edit_arrays(path, lambda arrays: arrays["mel"][:, :, frames + 1 :].fill(9))
    assert check(own)[0] == 0
    edit_arrays(path, lambda arrays: arrays["mel"][:, :, frames].fill(9))
    assert len(failed(own)) == len(FEW)


# Recordings that cannot be checked


@pytest.mark.parametrize("name", ["golden.json", "golden.safetensors"])
def test_a_missing_file_is_named(own: Path, name: str) -> None:
    (own / name).unlink()
    assert f"{name} is missing" in fault(own)


def test_both_missing_files_are_named(tmp_path: Path) -> None:
    assert "golden.json is missing; golden.safetensors is missing" in fault(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_without_its_model_is_refused(own: Path, name: str) -> None:
    (own / name).unlink()
    exit_code, lines = check(own)
    assert exit_code == 2
    assert len(lines) == 1
    assert lines[0].startswith(f"Error: checkpoint {own}: ")
    assert name in lines[0]


@pytest.mark.parametrize("name", ["golden.json", "golden.safetensors"])
def test_a_file_that_is_cut_short_is_refused(own: Path, name: str) -> None:
    (own / name).write_bytes((own / name).read_bytes()[:-100])
    assert fault(own).endswith("; copy or record them again")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"method": "dance"},
            "setting 1: dance with schedule constant and ratio 0.2 is not known; methods: ",
        ),
        (
            {"method": "random"},
            "methods: full, merge_weighted, merge_ave, atome, fastv_evict, kv_evict; schedules: ",
        ),
        ({"schedule": "weekly"}, "setting 1: merge_weighted with schedule weekly and ratio 0.2 is not known"),
        ({"schedule": "weekly"}, "schedules: none, constant, decay; ratios: at least 0 and below 1"),
        ({"ratio": 1.0}, "setting 1: merge_weighted with schedule constant and ratio 1.0 is not known"),
        ({"ratio": float("nan")}, "setting 1: merge_weighted with schedule constant and ratio nan is not"),
        ({"tokens": [1.5]}, "cannot be interpreted as an integer"),
        ({"tokens": []}, "logits.1 (5, 60) does not fit 0 tokens of 60"),
        ({"tokens": [1, 2]}, "logits.1 (5, 60) does not fit 2 tokens of 60"),
        ({"tokens": [1, 2, 3, 4, 60]}, "token 60 is not one of the model's 60"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(own: Path, values: Entry, message: str) -> None:
    edit_setting(own, **values)
    assert message in fault(own)


def test_a_start_layer_that_the_model_lacks_is_refused(own: Path) -> None:
    edit_setting(own, start_layer=6)
    exit_code, lines = check(own)
    assert exit_code == 2
    assert lines == [
        "Error: profile 'setting-1': start_layer 6 is out of range: this model has layers 0 to 5"
    ]


def test_a_recording_without_settings_is_refused(own: Path) -> None:
    edit(own, lambda content: content["settings"].clear())
    assert "golden.json has no setting" in fault(own)


@pytest.mark.parametrize("key", ["method", "ratio", "start_layer", "schedule", "kv_lengths", "tokens"])
def test_a_missing_key_of_a_setting_is_named(own: Path, key: str) -> None:
    edit(own, lambda content: content["settings"][CHANGED].pop(key))
    assert f"no '{key}'" in fault(own)


@pytest.mark.parametrize("key", ["span", "mel_frames"])
def test_a_missing_key_of_the_prompt_is_named(own: Path, key: str) -> None:
    edit(own, lambda content: content["config"].pop(key))
    assert f"no '{key}'" in fault(own)


@pytest.mark.parametrize("name", ["mel", "input_ids", "logits.1"])
def test_a_missing_array_is_named(own: Path, name: str) -> None:
    edit_arrays(own / "golden.safetensors", lambda arrays: arrays.pop(name))
    assert f"no '{name}'" in fault(own)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["mel", "logits.1"])
def test_numbers_that_are_not_finite_are_refused(own: Path, name: str, value: float) -> None:
    edit_arrays(own / "golden.safetensors", lambda arrays: arrays[name].flat.__setitem__(7, value))
    assert f"numbers in {name} are not finite" in fault(own)


def test_a_weight_that_is_no_number_fails_every_setting(own: Path) -> None:
    name = "transformer.ln_f.weight"
    edit_arrays(own / "model.safetensors", lambda weights: weights[name].fill(np.nan))
    assert len(failed(own)) == len(FEW)


@pytest.mark.parametrize("span", [[-1, 37], [3, 46], [3, 100], [41, 3], [41, 41], [3, 40], [4, 41]])
def test_a_span_out_of_range_is_refused(own: Path, span: list[int]) -> None:
    edit(own, lambda content: content["config"].update(span=span))
    start, end = span
    assert f"span {start} to {end} is out of range: 39 places of the prompt's 46 are expected" in fault(own)


@pytest.mark.parametrize("frames", [-5, 0, 2, 201, 10**9])
def test_frames_beyond_the_encoder_are_refused(own: Path, frames: int) -> None:
    edit(own, lambda content: content["config"].update(mel_frames=frames))
    assert "or mel_frames is out of range: (80, 3 to 200) is expected" in fault(own)


def test_a_mel_of_another_model_is_refused(own: Path) -> None:
    edit_arrays(own / "golden.safetensors", lambda arrays: arrays.update(mel=arrays["mel"][:, :64].copy()))
    assert "mel (64, 150) or mel_frames is out of range: (80, 3 to 200)" in fault(own)


def test_a_prompt_that_exceeds_the_positions_is_refused(own: Path) -> None:
    config = json.loads((own / "config.json").read_text("utf-8"))
    (own / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 50}), "utf-8")
    assert check(own)[0] == 0, "46 rows and 4 steps fit"
    (own / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 49}), "utf-8")
    assert "setting 1: 50 rows exceed the 49 positions of the model" in fault(own)


def test_faults_are_gathered(own: Path) -> None:
    edit(own, lambda content: content["config"].update(span=[3, 100]))
    edit_setting(own, tokens=[99])
    line = fault(own)
    assert all(text in line for text in ("span 3 to 100", "logits.1 (5, 60)", "token 99"))


def test_safetensors_that_is_not_installed_is_named(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("safetensors", "safetensors.numpy"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DependencyError, match=r'safetensors.*pip install "fastadasp-export\[export\]"'):
        check_golden(own, own)
    exit_code, lines = check(own)
    assert exit_code == 2
    assert lines[0].startswith("Error: safetensors is not installed; this command needs the packages of exp")
