"""The tables of docs/quantization.md are those of the result files that stand in the repository."""

from __future__ import annotations

import shutil
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


def test_results_are_those_of_the_demo_model_or_are_measured_again(quantization, monkeypatch, tmp_path):
    shutil.copytree(quantization.RESULTS, tmp_path / "results")
    (tmp_path / "synthetic-30.jsonl").touch()  # the sets are there
    monkeypatch.setattr(quantization, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(quantization, "SETS", tmp_path)
    quantization.measure(again=False)  # of the shipped one none is missing
    (tmp_path / "demo/model").mkdir(parents=True)
    (tmp_path / "demo/model/model.safetensors").write_bytes(b"another one")
    monkeypatch.setattr(quantization, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match=r"results/\*\.json: not known to be of the checkpoints"):
        quantization.measure(again=False)
    monkeypatch.setattr(quantization, "PARTS", ())
    quantization.measure(again=True)
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["checkpoints.json"]
    quantization.measure(again=False)
