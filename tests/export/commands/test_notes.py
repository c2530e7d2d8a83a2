"""What commands say of a checkpoint: what nothing uses of it, once; and that it has no tokenizer."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from fastadasp.export.cli import main

BUILT = ("--profile", "full", "-o", "{out}")
ANSWERED = ("--manifest", "{clips}", "--max-new-tokens", "1", "--resamples", "10", "--prompt", "hello")
COMMANDS = {
    "build": BUILT,
    "plugins graphs": BUILT,
    "compare": (*ANSWERED, "--methods", "weighted_merge", "--schedules", "constant", "--flops", "20"),
    "select-layer": (*ANSWERED, "--flops", "5", "--accuracy"),
}


@pytest.fixture
def checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """One with a tensor that is part of no model."""
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))
    weights = folder / "model.safetensors"
    tensors = load_file(weights) | {"talker.weight": np.zeros(4, np.float32)}
    save_file(tensors, weights, {"format": "pt"})
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_a_tensor_that_nothing_uses_is_named_once(
    command: str, checkpoint: Path, own_clips: Path, tmp_path: Path
) -> None:
    own_clips.write_text(own_clips.read_text("utf-8").replace('"<asr>"', '"hello"'), "utf-8")
    words = [word.format(out=tmp_path / "out", clips=own_clips) for word in COMMANDS[command]]
    result = CliRunner().invoke(main, [*command.split(), str(checkpoint), *words])
    assert result.exit_code == 0, result.output
    assert [line.startswith("warning: ") for line in result.stderr.splitlines() if "talker" in line] == [True]


def test_a_checkpoint_without_a_tokenizer_is_built_with_a_warning(
    tiny_checkpoint: Path, clip: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))
    (folder / "tokenizer.json").unlink()
    art = str(tmp_path / "out")
    built = CliRunner().invoke(main, ["build", str(folder), "-o", art, "--profile", "full"])
    assert built.exit_code == 0, built.output
    (line,) = (line for line in built.stderr.splitlines() if "tokenizer.json" in line)
    assert line.startswith(f"warning: checkpoint {folder} has no tokenizer.json: ")
    asked = CliRunner().invoke(main, ["run", art, str(clip), "--profile", "full", "--prompt", "hello"])
    assert asked.exit_code == 2
    assert "add that of the original model to the checkpoint and build again" in asked.stderr
