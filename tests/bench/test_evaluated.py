"""What scripts that measure take for a result."""

from __future__ import annotations

from pathlib import Path

import evaluated
import pytest

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
