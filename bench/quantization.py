"""Measure what weights in 8 and 4 bits cost the demo model, and write the tables of docs/quantization.md.

    python bench/quantization.py              # what has no result yet; a run that was stopped goes on
    python bench/quantization.py --again      # everything anew, after a change of how weights are quantised
    python bench/quantization.py --page-only  # the tables again, from results that are there

Each result is that of one `fastadasp-export compare --quantize none,int8,int4` on one thread, over a set of
`demo/evaluation_sets.py` (made first where it is missing, which needs espeak-ng). All of it takes about
five minutes of one core of an AMD EPYC; the results lie in bench/results/quantize. Those of another demo
model are refused, not mixed with.
"""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from evaluated import ROOT, hold_to_checkpoints, placed, run, table_row

from fastadasp.evaluation.metrics.metric import Metric
from fastadasp.evaluation.results.comparison import CellRecord, ComparisonResult
from fastadasp.evaluation.results.figure_text import (
    estimate_text,
    figure_of,
    heading,
    interval_text,
    value_text,
)
from fastadasp.evaluation.results.files import read_results
from fastadasp.runtime.tables.units import milliseconds, size

SETS = ROOT / "build/evaluation"
RESULTS = ROOT / "bench/results/quantize"
PAGE = ROOT / "docs/quantization.md"
BEGIN = "<!-- written by bench/quantization.py -->"
FORMATS = ("none", "int8", "int4")
LEVEL = Fraction(1, 2)
LIBRARIES = ("fastadasp-export", "onnxruntime", "jiwer", "sacrebleu")
COLUMNS = ("float32", "int8", "less float32", "int4", "less float32")


@dataclass(frozen=True)
class Part:
    """One comparison."""

    title: str
    clips: str  # a set of demo/evaluation_sets.py
    task: str

    @property
    def output(self) -> Path:
        """Its result file."""
        return RESULTS / f"{self.clips}-{self.task}.json"

    @property
    def words(self) -> tuple[str, ...]:
        """Its command, behind the name of the program."""
        clips = (SETS / f"{self.clips}.jsonl").relative_to(ROOT)
        return (
            *("compare", "demo/model", "--manifest", str(clips), "--task", self.task),
            *("--methods", "weighted_merge", "--schedules", "constant", "--flops", f"{float(100 * LEVEL):g}"),
            *("--reference-seconds", "30", "--quantize", ",".join(FORMATS), "--threads", "1"),
            *("-o", str(self.output.relative_to(ROOT))),
        )


PARTS = (
    Part("human, 2 to 10 s", "human", "asr"),
    Part("human, 28 to 30 s", "human-30", "asr"),
    Part("synthetic, 3 to 10 s", "synthetic", "asr"),
    Part("human, questions", "human", "qa"),
    Part("synthetic, questions", "synthetic", "qa"),
    Part("human, to French and German", "human", "translate"),
    Part("synthetic, to French and German", "synthetic", "translate"),
)
COSTS = PARTS[1]  # whose times and bytes are shown: the longest clips


def measure(again: bool) -> None:
    """Run what has no result yet, or everything."""
    if not (SETS / "synthetic-30.jsonl").is_file():
        run([str(ROOT / "demo/evaluation_sets.py"), "-o", str(SETS)])
    for path in RESULTS.glob("*.json") if again else ():
        path.unlink()
    hold_to_checkpoints(RESULTS, {"demo": ROOT / "demo/model"}, "*.json")
    for part in PARTS:
        if not part.output.is_file():
            begin = time.perf_counter()
            run(["-P", "-m", "fastadasp.export", *part.words], part.output)
            print(f"{part.output.name}: {time.perf_counter() - begin:.0f} s", flush=True)


def write_page() -> None:
    """Put the tables where the page has its marks."""
    PAGE.write_text(placed(PAGE.read_text("utf-8"), BEGIN, tables()), "utf-8")


def tables() -> str:
    """Accuracy, then time and memory; what has no result yet is named."""
    found = {part: result(part) for part in PARTS if part.output.is_file()}
    missing = [part.title for part in PARTS if part not in found]
    lines = [*_accuracy(found)]
    if missing:
        lines += ["", f"**Not measured yet**: {'; '.join(missing)}."]
    if found:
        lines += ["", *(_significant(found, place) for place in range(1, len(FORMATS)))]
    if COSTS in found:
        lines += ["", *_costs(found[COSTS])]
    if found:
        lines += ["", *_origin(*next(iter(found.items())))]
    return "\n".join(lines)


def result(part: Part) -> ComparisonResult:
    (file,) = read_results([part.output]).of(ComparisonResult)
    return file.found


def profiles(found: ComparisonResult) -> Iterator[tuple[str, tuple[CellRecord, ...]]]:
    """The full model and the reduced one, each in all formats."""
    names = [record.quantized for record in found.formats]
    yield "full", tuple(cell for name in names if (cell := found.full_in(name)) is not None)
    yield "50 %", tuple(row.cells[0] for name in names for row in found.reduced_in(name))


def _accuracy(found: dict[Part, ComparisonResult]) -> Iterator[str]:
    yield table_row("set (clips)", "metric", "profile", *COLUMNS)
    yield table_row(*["---"] * (3 + len(COLUMNS)))
    for part, compared in found.items():
        metric = compared.metrics[0]
        place = f"{part.title} ({compared.clips.measured})", heading(metric).replace(",", "")
        for name, (original, *others) in profiles(compared):
            own = estimate_text(metric, figure_of(metric, original.figures))
            cells = (text for cell in others for text in _compared(metric, cell))
            yield table_row(*place, name, own, *cells)
            place = "", ""


def _compared(metric: Metric, cell: CellRecord) -> Iterator[str]:
    """A figure, and its difference from float32; a star where 0 is not in its interval."""
    yield value_text(metric, figure_of(metric, cell.figures).value)
    change = cell.from_float32[metric.name].times(metric.scale)
    star = "\\*" if _differs(cell, metric) else ""
    yield f"{value_text(metric, change.value, '+')} ({interval_text(metric, change, '+')}){star}"


def _differs(cell: CellRecord, metric: Metric) -> bool:
    """Whether the interval of the difference from float32 excludes 0."""
    change = cell.from_float32[metric.name]
    return change.low is not None and change.high is not None and not change.low <= 0 <= change.high


def _significant(found: dict[Part, ComparisonResult], place: int) -> str:
    """How many differences of a format there are, and which exclude 0."""
    cells = [
        (f"{part.title}, {name}", _differs(formats[place], compared.metrics[0]))
        for part, compared in found.items()
        for name, formats in profiles(compared)
    ]
    names = [name for name, differs in cells if differs]
    where = f" ({'; '.join(names)})" if names else ""
    return f"* {FORMATS[place]}: of {len(cells)} intervals of differences, {len(names)} without 0{where}."


def _costs(found: ComparisonResult) -> Iterator[str]:
    yield f"Time and memory on the set of {COSTS.title}; {found.memory}:"
    yield ""
    yield table_row("profile", "weights", "prefill ms", "step ms", "weight files", "peak memory")
    yield table_row(*["---"] * 6)
    for name, cells in profiles(found):
        for record, cell in zip(found.formats, cells, strict=True):
            times = milliseconds(cell.prefill_ms), milliseconds(cell.step_ms)
            yield table_row(name, record.name, *times, size(record.weight_bytes), size(cell.peak_bytes))


def _origin(part: Part, found: ComparisonResult) -> Iterator[str]:
    """The command, and where it ran."""
    machine = found.environment
    libraries = ", ".join(f"{name} {machine.libraries[name]}" for name in LIBRARIES)
    load = "unknown" if machine.load_average is None else f"{machine.load_average[0]:.1f}"
    yield "`python bench/quantization.py` writes these tables, from one such command a set:"
    yield ""
    yield "```"
    yield f"fastadasp-export {shlex.join(part.words)}"
    yield "```"
    yield ""
    yield (
        f"{machine.cpu}, {machine.cores} cores; load {load} as it began, so that times are good for their "
        f"ratios alone; one thread; {libraries}. All figures: `bench/results/quantize`."
    )


def main() -> None:
    """Measure, then write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--again", action="store_true", help="remove the results that are there first")
    parser.add_argument(
        "--page-only", action="store_true", help="write the tables from results that are there"
    )
    options = parser.parse_args()
    if not options.page_only:
        measure(options.again)
    write_page()
    print(f"{PAGE.relative_to(ROOT)} written")


if __name__ == "__main__":
    main()
