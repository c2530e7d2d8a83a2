"""Temporary folders vanish at the end, and what a killed run has left goes with the next one."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fastadasp.profiles.temporary import temporary_folder

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without locks")
WORKER = """
import time
from fastadasp.profiles.temporary import temporary_folder
with temporary_folder() as folder:
    (folder / "part").write_text("half")
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_vanishes_at_the_end(place: Path) -> None:
    with temporary_folder() as first, temporary_folder() as second:
        (first / "file").write_text("text")
        assert sorted(place.iterdir()) == sorted([first, second])
    assert list(place.iterdir()) == []


def test_what_a_killed_run_has_left_goes_with_the_next_one(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fastadasp")
    worker = subprocess.Popen([sys.executable, "-c", WORKER], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    with worker:
        left = Path(worker.stdout.readline().strip())
        with temporary_folder():
            assert (left / "part").is_file()  # it is in use
        worker.send_signal(signal.SIGKILL)
    with temporary_folder() as own:
        assert list(place.iterdir()) == [own]
    assert caplog.messages == [f"removed {left}, which a run that was killed has left"]


def test_nothing_else_is_removed(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "file").write_text("text")
    (place / "fastadasp-abcdefgh").symlink_to(elsewhere)
    (place / "fastadasp-abcdefgi").write_text("a file")
    (place / "fastadasp-notes").mkdir()
    before = sorted(place.iterdir())
    with temporary_folder():
        pass
    assert sorted(place.iterdir()) == before
    assert (elsewhere / "file").is_file()
