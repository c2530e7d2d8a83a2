"""The path of the README for every family, on its tiny checkpoint: build, show, run, bench, eval, check."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from click.testing import CliRunner

from conftest import OWN_PROFILE, noise
from fastadasp.export.cli import main
from fastadasp.export.model.families.family import FAMILIES
from fastadasp.export.reference.model import load_reference
from tiny_families import TINY

pytestmark = pytest.mark.usefixtures("one_thread")
TESTS = Path(__file__).parents[1]
ELSEWHERE = {
    "qwen2_audio": "parity/test_transformers.py",  # `tiny_checkpoint`, which most tests take
    "qwen": "parity/test_qwen_audio_v1.py",  # transformers has no such model
    "wavllm": "parity/test_wavllm.py",  # nor this one
    "qwen2_5_omni_thinker": "parity/test_chunk_families.py",  # another layout of qwen2_5_omni
}
"""Type of model that `TINY` lacks -> where it is compared with a reference."""


def call(*args):
    """Run a command that must succeed; what it prints."""
    result = CliRunner().invoke(main, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_no_family_is_left_out():
    assert ELSEWHERE.keys() == FAMILIES.keys() - TINY.keys()
    assert all((TESTS / file).is_file() for file in ELSEWHERE.values())


@pytest.mark.parametrize("family", TINY)
def test_every_command_of_the_readme_takes_the_family(family, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    checkpoint, artifact, clip = tmp_path / "checkpoint", tmp_path / "artifact", tmp_path / "clip.wav"
    TINY[family].save(checkpoint)
    soundfile.write(clip, noise(3.0), 16000)
    (tmp_path / "own.toml").write_text(OWN_PROFILE)
    clips = tmp_path / "clips.jsonl"
    clips.write_text(json.dumps({"audio": clip.name, "text": "hello world", "task": "asr"}) + "\n")
    assert "can be built" in call("families", checkpoint)
    own = tmp_path / "own.toml"
    shown = call(
        "profiles",
        "show",
        "own",
        "--profiles-folder",
        tmp_path,
        "--checkpoint",
        checkpoint,
        "--audio-seconds",
        3,
    )
    assert "attention" in shown
    call("build", checkpoint, "-o", artifact, "--profile", "full", "--profile", own)
    call("run", artifact, clip, "--profile", "own", "--max-new-tokens", 3)
    call("run", artifact, clip, "--prompt", "what is said?", "--beams", 2, "--max-new-tokens", 3)
    short = ("--new-tokens", 2, "--runs", 1, "--warmup", 0)
    call("bench", artifact, "--profile", "own", "--beams", 1, "--audio-seconds", 3, *short)
    call("eval", artifact, "--manifest", clips, "-o", tmp_path / "eval.json", "--max-new-tokens", 3)
    assert "disagree" not in call("check", artifact, "--clip", clip)


@pytest.mark.parametrize("propagate", [False, True])
def test_a_check_is_silent_about_parts_that_the_model_leaves_out(
    tmp_path, caplog, capfd, monkeypatch, propagate
):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", propagate)
    TINY["qwen2_5_omni"].save(tmp_path)
    caplog.clear()
    capfd.readouterr()
    load_reference(tmp_path)
    assert "MISSING" not in caplog.text + "".join(capfd.readouterr())
