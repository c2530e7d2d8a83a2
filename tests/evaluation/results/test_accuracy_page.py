"""The script behind docs/accuracy.md reads what `compare` and `select-layer` write."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from fastadasp.evaluation.metrics.word_errors import is_detail
from fastadasp.evaluation.results.comparison import ComparisonResult
from fastadasp.evaluation.results.files import read_results
from fastadasp.evaluation.results.selection import SelectionResult

BENCH = Path(__file__).parents[3] / "bench"


@pytest.fixture
def accuracy(monkeypatch, tmp_path):
    """The script, whose work folder is an empty one."""
    monkeypatch.setattr(sys, "path", [str(BENCH), *sys.path])
    import accuracy

    monkeypatch.setattr(accuracy, "ROOT", tmp_path)
    monkeypatch.setattr(accuracy, "WORK", tmp_path / "build")
    accuracy.WORK.mkdir()
    yield accuracy
    del sys.modules["accuracy"]


def test_every_figure_of_the_files_is_on_the_page(accuracy, real_files):
    shutil.copy(real_files["compare"], accuracy.WORK / "asr.json")
    shutil.copy(real_files["select-layer"], accuracy.WORK / "layers.json")
    page = accuracy.page()
    results = read_results([real_files["compare"], real_files["select-layer"]])
    compared, selected = results.of(ComparisonResult)[0].found, results.of(SelectionResult)[0].found
    assert "3 clips; ratios solved for " in page
    for metric in (metric for metric in compared.metrics if not is_detail(metric)):
        full = compared.full.figures[metric.name]
        assert f"{metric.title}, lower is better; full model {100 * full.value:.1f} [" in page
    for row in compared.rows:
        met, unmet = row.cells
        assert any(
            line.startswith(f"| {row.label} | {100 * met.figures['wer'].value:.1f} [") and unmet.unmet in line
            for line in page.splitlines()
        )
    for layer in selected.layers:
        entropy = layer.infeasible if layer.entropy is None else f"{layer.entropy.transfer_entropy:.2f}"
        accuracies = [f"{100 * figures['wer'].value:.1f}" for figures in layer.accuracy.values()]
        (line,) = [line for line in page.splitlines() if line.startswith(f"| {layer.layer} | {entropy} |")]
        assert line.split(" | ")[4:] == [f"{one} |" for one in accuracies or [""]]
    assert f"{compared.environment.cpu}, {compared.environment.cores} cores; Python " in page
    assert "**Not measured yet**: Speaking style, synthetic voices;" in page


def test_a_page_without_results_is_refused_with_the_command_that_makes_them(accuracy, monkeypatch):
    monkeypatch.setattr(accuracy, "PAGE", accuracy.WORK / "accuracy.md")
    monkeypatch.setattr(sys, "argv", ["accuracy.py", "--page-only"])
    with pytest.raises(SystemExit) as ended:
        accuracy.main()
    assert "build/layers.json is missing" in ended.value.code  # a text is printed, and the exit code 1
    assert ended.value.code.endswith("made by: python bench/accuracy.py")
    assert not accuracy.PAGE.exists()


def test_results_of_another_model_are_refused(accuracy):
    (accuracy.WORK / "asr.json").touch()
    with pytest.raises(SystemExit, match=r"build/\*\.json: not known to be of the checkpoints"):
        accuracy.measure(workers=1)
