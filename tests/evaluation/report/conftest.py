"""Result files as commands write them, and the same by hand where a run would take long."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from demo_files import CLIPS, DEMO
from fastadasp.evaluation.report.files.result_files import Results, read_results
from fastadasp.export.cli import main

from . import examples

PROMPT = ("--prompt", "<asr>")
BY_HAND: dict[str, Callable[[], dict[str, Any]]] = {
    "compare-asr.json": examples.asr_comparison,
    "compare-st.json": examples.translation_comparison,
    "layers-by-hand.json": examples.selection,
    "tune.json": examples.tuning,
}


def run(*args: object) -> Result:
    """A command within this process; whatever is no exit is raised."""
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="session")
def real_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Of `eval`, one clip of which fails, `bench`, one case of which is skipped, and `select-layer`."""
    folder = tmp_path_factory.mktemp("results")
    artifact, clips = folder / "ART", _clips_with_a_broken_one(folder)
    profiles = ("--profile", "full", "--profile", "dense-constant-50")
    assert run("build", DEMO / "model", "-o", artifact, *profiles).exit_code == 0
    evaluation, benchmark, layers = (folder / f"{name}.json" for name in ("eval", "results", "layers"))
    assert run("eval", artifact, "--manifest", clips, *PROMPT, "-o", evaluation).exit_code == 1
    counts = (
        "--audio-seconds",
        "1,2,600",
        "--beams",
        "1,2",
        "--runs",
        1,
        "--warmup",
        0,
        "--new-tokens",
        4,
    )
    assert run("bench", artifact, *counts, "-o", benchmark).exit_code == 0
    selection = ("--manifest", CLIPS, *PROMPT, "--flops", 30, "--resamples", 20, "--json", layers)
    assert run("select-layer", DEMO / "model", *selection).exit_code == 0
    return evaluation, benchmark, layers


@pytest.fixture(scope="session")
def files_by_hand(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Of `compare`, `select-layer` and `tune`."""
    folder = tmp_path_factory.mktemp("by-hand")
    return tuple(write(folder / name, content()) for name, content in BY_HAND.items())


@pytest.fixture(scope="session")
def all_files(real_files: tuple[Path, ...], files_by_hand: tuple[Path, ...]) -> tuple[Path, ...]:
    return (*real_files, *files_by_hand)


@pytest.fixture(scope="session")
def results(all_files: tuple[Path, ...]) -> Results:
    return read_results(all_files)


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), "utf-8")
    return path


def _clips_with_a_broken_one(folder: Path) -> Path:
    lines = CLIPS.read_text("utf-8").splitlines()[:3]
    for line in lines:
        shutil.copy(CLIPS.parent / json.loads(line)["audio"], folder)
    (folder / "broken.wav").write_bytes(b"no audio")
    broken = {"audio": "broken.wav", "text": "nothing", "task": "asr"}
    (folder / "clips.jsonl").write_text("\n".join([*lines, json.dumps(broken)]), "utf-8")
    return folder / "clips.jsonl"
