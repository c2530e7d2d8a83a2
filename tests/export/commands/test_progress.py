"""Long work tells how far it is, also where stderr is no terminal."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from fastadasp.export.cli import main
from fastadasp.export.commands import progress
from fastadasp.export.commands.progress import progress_bar
from fastadasp.runtime.artifact import artifact, verification
from fastadasp.runtime.artifact.manifest import FILE_NAME, parse_manifest
from fastadasp.runtime.artifact.verdicts import identity_of


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told every ten seconds is told each time."""
    monkeypatch.setattr(progress, "EVERY", 0.0)


def lines(*args: object) -> list[str]:
    result = CliRunner().invoke(main, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stderr.splitlines()


def test_soon_done_is_not_worth_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("load") as tick:
        tick("work", 1, 2)
        tick("work", 2, 2)
    assert capsys.readouterr().err == ""


def test_a_line_now_and_then_and_one_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(progress, "EVERY", 10.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with progress_bar("load") as tick:
        for done in range(1, 36):
            now += 1.0
            tick("work", done, 35)
    assert capsys.readouterr().err.split("\n") == [
        "work: 10 of 35",
        "work: 20 of 35",
        "work: 30 of 35",
        "work: 35 of 35",
        "",
    ]


@pytest.mark.usefixtures("eager")
def test_check_counts_its_runs_to_the_end(tiny_artifact: Path, clip: Path) -> None:
    told = lines("check", tiny_artifact, "--clip", clip, "--profile", "full,own-30")
    counts = [re.fullmatch(r"(encoder|decode|prefill\.[a-z0-9-]+): (\d+) of (\d+)", line) for line in told]
    found = [(int(match[2]), int(match[3])) for match in counts if match]
    total = found[0][1]
    assert found == [(done, total) for done in range(1, total + 1)]
    assert len(found) == len(told)


@pytest.mark.usefixtures("eager")
def test_build_tells_the_bytes_that_it_copies_and_hashes(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for weights, stage in (("copy", "write weights (copied)"), ("link", "hash files")):
        told = lines(
            "build", tiny_checkpoint, "-o", tmp_path / weights, "--profile", "full", "--weights", weights
        )
        assert any(
            re.fullmatch(rf"{re.escape(stage)}: [\d.]+ [kM]B of [\d.]+ [kM]B, 100 %", line) for line in told
        ), told


@pytest.mark.parametrize("slow", [False, True])
def test_the_first_load_says_once_that_it_hashes(
    tiny_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: bool
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(verification, "LARGE_BYTES", 0)
    monkeypatch.setattr(artifact, "PATIENCE", 0.0 if slow else 60.0)
    while not all(identity_of(path.stat()).is_settled for path in tiny_artifact.rglob("*")):
        time.sleep(0.02)  # of files that were written just now no verdict is kept
    manifest = parse_manifest((tiny_artifact / FILE_NAME).read_bytes(), FILE_NAME)
    size = sum(record.size for record in manifest.files.values())
    told = f"verifying {tiny_artifact} by hash: {size / 1e9:.3g} GB"
    assert lines("inspect", tiny_artifact) == ([told] if slow else [])
    assert lines("inspect", tiny_artifact) == []  # by its verdict
