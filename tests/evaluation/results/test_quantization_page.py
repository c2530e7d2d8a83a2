"""The tables of docs/quantization.md are those of the result files that stand in the repository."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[3] / "bench"


@pytest.fixture
def quantization(monkeypatch):
    """The script."""
    monkeypatch.setattr(sys, "path", [str(BENCH), *sys.path])
    import quantization

    yield quantization
    del sys.modules["quantization"]


def test_the_page_has_the_tables_of_the_result_files(quantization, monkeypatch, tmp_path):
    page = quantization.PAGE.read_text("utf-8")
    (tmp_path / "page.md").write_text(page, "utf-8")
    monkeypatch.setattr(quantization, "PAGE", tmp_path / "page.md")
    quantization.write_page()
    assert (tmp_path / "page.md").read_text("utf-8") == page


def test_every_set_has_both_profiles_in_every_format(quantization):
    for part in quantization.PARTS:
        profiles = dict(quantization.profiles(quantization.result(part)))
        assert {name: len(cells) for name, cells in profiles.items()} == {"full": 3, "50 %": 3}
        for original, *others in profiles.values():
            assert original.from_float32 == {}
            assert all(cell.from_float32 for cell in others)
