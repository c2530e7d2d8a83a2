"""The command `check` against recordings that begin with samples, made by a model in torch of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from fastadasp.export.cli import main
from torch_wavllm import PROMPTS, WAVES, write_recording

RESULTS = len(WAVES) + len(PROMPTS) + 2 * len(WAVES) * len(PROMPTS)


@pytest.fixture(scope="module", params=[False, True], ids=["new norm", "old norm"])
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other weights under each spelling of the weight norm."""
    folder = tmp_path_factory.mktemp("recording") / "all"
    write_recording(folder, seed=3 * request.param, old_norm=request.param)
    return folder


@pytest.fixture(scope="module")
def recorded_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recording") / "one"
    write_recording(folder)
    return folder


@pytest.fixture
def own(recorded_once: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(recorded_once, tmp_path / "own"))


def check(folder: Path) -> tuple[int, list[str]]:
    result = CliRunner().invoke(main, ["check", "--golden", str(folder)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    said = result.output.splitlines()
    return result.exit_code, [line for line in said if not line.startswith("warning: ")]


def failed(folder: Path) -> list[str]:
    exit_code, lines = check(folder)
    names = [line for line in lines[:-1] if line.startswith("FAIL")]
    assert exit_code == 1, lines
    assert lines[-1] == f"{RESULTS - len(names)} of {RESULTS} agree: values and tokens"
    return names


def fault(folder: Path) -> str:
    exit_code, lines = check(folder)
    assert exit_code == 2, lines
    assert lines[-1].startswith(f"Error: recorded outputs {folder}: ")
    return lines[-1]


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((folder / "golden.json").read_text("utf-8"))
    change(content)
    (folder / "golden.json").write_text(json.dumps(content), "utf-8")


def edit_arrays(file: Path, change: Callable[[dict[str, np.ndarray[Any, Any]]], object]) -> None:
    arrays = load_file(file)
    change(arrays)
    save_file(arrays, file)


def test_every_value_of_the_whole_path_agrees(recorded: Path) -> None:
    exit_code, lines = check(recorded)
    assert exit_code == 0, lines
    assert lines[-1] == f"{RESULTS} of {RESULTS} agree: values and tokens"
    assert lines[0].startswith("ok   wave a ")
    assert lines[-2].startswith("ok   case c1, ids as they are ")


def test_no_prompt_nor_variant_of_the_recording_is_trivial(recorded: Path) -> None:
    arrays = load_file(recorded / "golden.safetensors")
    scales = [arrays[f"f64/scale/{name}"] for name in PROMPTS]
    assert np.abs(scales[0] - scales[1]).max() > 0.5
    assert all(0 < (scale == bound).sum() < len(scale) for scale in scales for bound in (0, 3))
    for wave in WAVES:
        replaced = arrays[f"f64/logits_gen_tail/{wave}0"][len(PROMPTS["0"]["right_ids"]) - 1]
        assert np.abs(replaced - arrays[f"f64/logits_full_tail/{wave}0"][0]).max() > 0.1


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("f64/audio_embeds/b", "wave b "),
        ("f64/scale/1", "prompt 1 "),
        ("f64/logits_full_tail/a0", "case a0, ids as they are "),
    ],
)
def test_one_number_beyond_the_tolerance_is_found(own: Path, name: str, label: str) -> None:
    edit_arrays(own / "golden.safetensors", lambda arrays: arrays[name].flat.__setitem__(3, 9.0))
    (line,) = failed(own)
    assert line.startswith(f"FAIL {label}")
    assert ", above 0.0" in line


def test_another_token_is_found(own: Path) -> None:
    tokens = json.loads((own / "golden.json").read_text("utf-8"))["cases"]["c1"]["gen"]["tokens"]
    other = [*tokens[:-1], (tokens[-1] + 1) % 400]
    edit(own, lambda content: content["cases"]["c1"]["gen"].update(tokens=other))
    (line,) = failed(own)
    assert line.startswith("FAIL case c1, first id after the audio replaced ")
    assert line.endswith(", tokens differ")


def test_a_wave_with_a_row_more_is_found(own: Path) -> None:
    def longer(arrays: dict[str, np.ndarray[Any, Any]]) -> None:
        rows = arrays["f64/audio_embeds/a"]
        arrays["f64/audio_embeds/a"] = np.concatenate([rows, rows[-1:]])

    edit_arrays(own / "golden.safetensors", longer)
    (line,) = failed(own)
    assert "audio rows are (" in line


def test_another_epsilon_fails_the_logits(own: Path) -> None:
    config = json.loads((own / "config.json").read_text("utf-8"))
    config["text_config"]["rms_norm_eps"] = 1e-5
    (own / "config.json").write_text(json.dumps(config), "utf-8")
    assert len(failed(own)) >= RESULTS - len(WAVES) - len(PROMPTS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["cases"].clear(), "golden.json has no case"),
        (lambda content: content["prompts"].pop("1"), "no '1'"),
        (lambda content: content["cases"]["a0"].pop("full"), "no 'full'"),
        (lambda content: content["waves"].update(z={}), "no 'wave/z'"),
    ],
)
def test_a_recording_that_is_incomplete_is_refused(
    own: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit(own, change)
    assert message in fault(own)


def test_logits_of_another_length_are_refused(own: Path) -> None:
    name = "f64/logits_gen_tail/a0"
    edit_arrays(own / "golden.safetensors", lambda arrays: arrays.update({name: arrays[name][:-3]}))
    assert "logits of a0, first id after the audio replaced (3, 400) do not fit 5 tokens of 400" in fault(own)


def test_numbers_that_are_not_finite_are_refused(own: Path) -> None:
    edit_arrays(own / "golden.safetensors", lambda arrays: arrays["f64/scale/0"].flat.__setitem__(0, np.nan))
    assert "numbers in f64/scale/0 are not finite" in fault(own)
