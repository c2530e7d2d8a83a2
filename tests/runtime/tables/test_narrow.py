"""On a screen of any width every figure of a table reads as the number that it is."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from fastadasp.runtime import SpeechLM
from fastadasp.runtime.artifact.artifact import open_artifact
from fastadasp.runtime.benchmark.benchmark import run_benchmark
from fastadasp.runtime.benchmark.options import BenchmarkOptions
from fastadasp.runtime.tables.answers import clips_section, latency_section
from fastadasp.runtime.tables.artifact import artifact_sections
from fastadasp.runtime.tables.benchmark import benchmark_sections
from fastadasp.runtime.tables.narrow import LONGEST_KEPT
from fastadasp.runtime.tables.tables import Section, columns, show

WIDTHS = (30, 40, 60)
NUMBER = re.compile(r"[\w.+-]*\d[\w.+-]*")


def printed(section: Section, width: int) -> str:
    screen = Console(file=io.StringIO(), width=width, highlight=False, markup=False, emoji=False)
    show(screen, [section])
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width
    return str(text)


def figures(table: Table) -> Iterator[str]:
    """Every number of the cells, but for those too long for any column, such as digests."""
    for column in table.columns:
        for cell in column.cells:
            yield from (found for found in NUMBER.findall(str(cell)) if len(found) <= LONGEST_KEPT)


@pytest.fixture(scope="module")
def sections(tiny_artifact: Path) -> dict[str, Section]:
    """Tables of `bench`, `run`, `inspect` and, made up, of `eval` and `compare`."""
    model = SpeechLM.load(tiny_artifact, threads=1)
    options = BenchmarkOptions(beams=(1,), audio_seconds=(1.0,), runs=2, warmup=0, new_tokens=2)
    result = model.generate(np.full(16000, 0.1, np.float32), "hello", max_new_tokens=3)
    measured = columns("profile", "WER %", "95 %", "delta", "95 %", "p")
    measured.add_row("dense-constant-50", "28.14", "21.05 to 35.77", "+1.25", "-0.50 to +3.12", "0.125")
    grid = columns("FLOPs removed", "20 %", "30 %", "50 %", left=4)
    grid.add_row("A-ToMe, constant", "28.1*", "29.25*", "128.52")
    found = {
        "bench": next(part for part in benchmark_sections(run_benchmark(model, options)) if part),
        "run": latency_section(result, 1),
        "clips": clips_section([("a.wav", result), ("b.wav", result)]),
        "eval": Section("WER", measured),
        "compare": Section("WER", grid),
    }
    for i, part in enumerate(artifact_sections(open_artifact(tiny_artifact), "whole")):
        found[f"inspect {i}"] = part
    assert all(isinstance(part, Section) for part in found.values())
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("width", [*WIDTHS, *range(24, 100, 5)])
def test_no_figure_is_cut_or_split(sections: dict[str, Section], width: int) -> None:
    for name, section in sections.items():
        shown = NUMBER.findall(printed(section, width))
        for figure in figures(section.table):
            assert figure in shown, (name, width)
            shown.remove(figure)


@pytest.mark.parametrize("width", WIDTHS)
def test_names_of_columns_are_whole_on_a_narrow_screen(sections: dict[str, Section], width: int) -> None:
    text = printed(sections["bench"], width)
    for column in sections["bench"].table.columns[1:]:
        assert str(column.header) in text


def test_a_wide_screen_has_a_table(sections: dict[str, Section]) -> None:
    lines = printed(sections["eval"], 80).splitlines()
    assert lines[1].split() == ["profile", "WER", "%", "95", "%", "delta", "95", "%", "p"]
    assert lines[3].startswith("dense-constant-50")


def test_a_narrow_screen_has_a_figure_a_line(sections: dict[str, Section]) -> None:
    assert printed(sections["eval"], 30).splitlines() == [
        "WER",
        "dense-constant-50",
        "  WER %  28.14",
        "  95 %   21.05 to 35.77",
        "  delta  +1.25",
        "  95 %   -0.50 to +3.12",
        "  p      0.125",
    ]
