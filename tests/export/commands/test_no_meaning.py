"""Options that would change nothing are refused before anything is read."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from fastadasp.export.cli import main

SELECT = ("select-layer", "NOWHERE", "--manifest", "NOTHING")


def refusal(*words: str) -> str:
    ended = CliRunner().invoke(main, words)
    assert ended.exit_code == 2, ended.output
    return ended.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "words", [("--workers", "1"), ("--restart",), ("--beams", "2"), ("--eos", "1"), ("--flops-levels", "9")]
)
def test_options_of_an_evaluation_are_refused_without_one(words: tuple[str, ...]) -> None:
    assert refusal(*SELECT, *words) == f"Error: {words[0]}: of --accuracy, which is not given"
