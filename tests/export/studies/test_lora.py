"""A study of a checkpoint with an adapter is one of the merged model, and says which adapter it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from fastadasp.export.cli import main
from fastadasp.runtime.artifact.artifact import record_of

pytestmark = pytest.mark.usefixtures("one_thread")
RANK, ALPHA = 2, 8
MODULE = "language_model.model.layers.{}.mlp.down_proj"
QUICK = ("--max-new-tokens", "3", "--resamples", "20")
EVALUATED = (*QUICK, "--normalizer", "none")
COMMANDS = {
    "compare": ("--methods", "weighted_merge", "--schedules", "constant", "--flops", "20", *EVALUATED, "-o"),
    "tune": (
        *("--max-loss", "0", "--schedules", "constant", "--start-layers", "0", "--flops-levels", "20"),
        *("--positions", "compact", *EVALUATED, "-o", "tuned.toml", "--json"),
    ),
    "select-layer": (*("--flops", "20", "--accuracy", *QUICK, "--json"),),
}
"""Options of each study; the last names its result file."""


@pytest.fixture(scope="module")
def models(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A checkpoint, an adapter, and the checkpoint that both merge to."""
    folder, rng = tmp_path_factory.mktemp("models"), np.random.default_rng(0)
    merged = Path(shutil.copytree(tiny_checkpoint, folder / "merged"))
    tensors, factors = load_file(merged / "model.safetensors"), {}
    for i in range(4):
        rows, columns = tensors[f"{MODULE.format(i)}.weight"].shape
        down = rng.standard_normal((RANK, columns)).astype(np.float32)
        up = rng.standard_normal((rows, RANK)).astype(np.float32)
        tensors[f"{MODULE.format(i)}.weight"] += np.float32(ALPHA / RANK) * (up @ down)
        name = f"base_model.model.{MODULE.format(i)}"
        factors |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
    save_file(tensors, merged / "model.safetensors", metadata={"format": "pt"})
    adapter = folder / "adapter"
    adapter.mkdir()
    save_file(factors, adapter / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA}
    (adapter / "adapter_config.json").write_text(json.dumps(settings), "utf-8")
    return tiny_checkpoint, adapter, merged


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips of noise, about which nothing that is said is right."""
    folder = tmp_path_factory.mktemp("clips")
    lines = []
    for i in range(4):
        samples = 0.1 * np.random.default_rng(i).standard_normal(16000 + 3000 * i)
        soundfile.write(folder / f"{i}.wav", samples, 16000)
        lines.append({"audio": f"{i}.wav", "task": "asr", "text": "hello world what is said"})
    (folder / "clips.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return folder / "clips.jsonl"


def study(command: str, checkpoint: Path, clips: Path, folder: Path, *more: str) -> dict[str, Any]:
    """The result file of a study."""
    folder.mkdir()
    options = [str(folder / each) if each.endswith(".toml") else each for each in COMMANDS[command]]
    args = [command, str(checkpoint), "--manifest", str(clips), *options, str(folder / "found.json"), *more]
    result = CliRunner().invoke(main, args)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    found: dict[str, Any] = json.loads((folder / "found.json").read_text("utf-8"))
    return found


FIGURES = {
    "compare": lambda it: [it["full"]["figures"], [row["cells"][0]["figures"] for row in it["rows"]]],
    "tune": lambda it: [it["full"], [each["scores"] for each in it["candidates"]]],
    "select-layer": lambda it: [it["layers"], it["accuracy"]["full"]],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_study_with_an_adapter_finds_what_one_of_the_merged_model_finds(
    models: tuple[Path, Path, Path],
    clips: Path,
    tmp_path: Path,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # tune refuses a model whose answers are no good, as those of random weights are
    monkeypatch.setattr("fastadasp.export.studies.tune.rounds.fault_of", lambda _: "")
    base, adapter, merged = models
    found = study(command, base, clips, tmp_path / "adapter", "--lora", str(adapter))
    expected = study(command, merged, clips, tmp_path / "merged")
    assert numbers(FIGURES[command](found)) == pytest.approx(numbers(FIGURES[command](expected)), rel=1e-3)
    (recorded,) = found["checkpoint"]["adapters"]
    assert recorded == {
        "name": "adapter",
        "blake3": record_of(adapter / "adapter_model.safetensors").blake3,
        "ranks": [RANK],
        "changed": 4,
    }
    assert "adapters" not in expected["checkpoint"]


def numbers(content: Any) -> list[float]:
    """All of them, in the order in which they stand."""
    if isinstance(content, dict | list):
        parts = content.values() if isinstance(content, dict) else content
        return [number for part in parts for number in numbers(part)]
    return [content] if isinstance(content, int | float) else []
