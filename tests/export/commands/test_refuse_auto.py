"""Commands that measure or predict profiles take no word by which one would be chosen."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from fastadasp.export.cli import main


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("bench", "chosen by what bench measures of each"),
        ("plan", "by figures of an artifact, and a plan is of a"),
    ],
)
def test_auto_is_refused_with_the_reason(command: str, why: str) -> None:
    ended = CliRunner().invoke(main, [command, "NOWHERE", "--profile", "full,auto"])
    assert ended.exit_code == 2
    assert "profile auto: it is " in ended.stderr
    assert why in ended.stderr
    assert "name profiles" in ended.stderr
