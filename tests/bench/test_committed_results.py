"""Result files that pages are written from are read by the commands of today."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fastadasp.evaluation.results.files import read_results

RESULTS = Path(__file__).parents[2] / "bench/results"
OURS = [
    path
    for path in sorted(RESULTS.rglob("*.json"))
    if {"kind", "format_version"} <= json.loads(path.read_text("utf-8")).keys()
]


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(RESULTS)))
def test_a_committed_result_is_read(path: Path) -> None:
    assert read_results([path]).files
