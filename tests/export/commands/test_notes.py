"""What a checkpoint holds and nobody uses is named by every command that reads it, once."""

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
