"""What scripts that measure take for a result."""

from __future__ import annotations

import json
from pathlib import Path

import evaluated
import pretrained_figures
import pytest
import reductions

WRITES = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text('found')"


@pytest.mark.parametrize("code", [0, 1])
def test_a_command_that_wrote_its_result_has_done_its_work(code: int, tmp_path: Path) -> None:
    evaluated.run(["-c", f"{WRITES}; sys.exit({code})", str(tmp_path / "found")], tmp_path / "found")


def test_a_crash_is_no_result_whatever_was_there_before(tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    for output in (None, tmp_path / "new", tmp_path / "old"):
        with pytest.raises(SystemExit, match="1"):
            evaluated.run(["-c", "import sys; sys.exit(1)"], output)
    with pytest.raises(SystemExit, match="2"):
        evaluated.run(["-c", f"{WRITES}; sys.exit(2)", str(tmp_path / "new")], tmp_path / "new")


def test_results_are_held_to_the_checkpoints_that_they_are_of(tmp_path: Path) -> None:
    results, models = tmp_path / "results", {name: tmp_path / name for name in ("seed-0", "seed-1")}
    for folder in models.values():
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"first")
    evaluated.hold_to_checkpoints(results, models)
    (results / "seed-0.human.json").touch()
    evaluated.hold_to_checkpoints(results, models)
    (models["seed-0"] / "model.safetensors").write_bytes(b"second")
    with pytest.raises(SystemExit, match=r"results/seed-0\.\*: not known to be of the checkpoints"):
        evaluated.hold_to_checkpoints(results, models)
    evaluated.hold_to_checkpoints(results, {"seed-1": models["seed-1"]})
    with pytest.raises(SystemExit, match="seed-0"):
        evaluated.hold_to_checkpoints(results, {"seed-0": tmp_path / "gone"})
    (results / "seed-0.human.json").unlink()
    evaluated.hold_to_checkpoints(results, models)
    (results / "seed-0.human.json").touch()
    evaluated.hold_to_checkpoints(results, models)


@pytest.mark.parametrize("results", [*pretrained_figures.trainings(), reductions.RESULTS])
def test_results_in_the_repository_say_what_they_are_of(results: Path) -> None:
    noted = json.loads((results / evaluated.CHECKPOINTS).read_text("utf-8"))
    assert evaluated.names_of(results) <= noted.keys()
