"""Measure reducers before the decoder and newer ones on the demo model, at equal FLOPs, and print the table.

    python bench/reducers.py               # what has no result yet
    python bench/reducers.py --table-only

Each result is that of one `fastadasp-export compare` and lies in bench/results/reducers; a run that was
stopped goes on. The clips are those of `demo/evaluation_sets.py`, made first with espeak-ng if need be.
What is published for Affinity Pooling merges in deep layers, so it has a comparison of its own; and so have
methods that select among groups.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from fastadasp.evaluation.report.shown import estimate_text, figure_of
from fastadasp.evaluation.results.comparison import CellRecord, ComparisonResult
from fastadasp.evaluation.results.files import read_results
from fastadasp.profiles.keys import POSITIONS

ROOT = Path(__file__).parent.parent
SETS = ROOT / "build/evaluation"
RESULTS = ROOT / "bench/results/reducers"
CLIPS = "human-30"  # 24 clips of a human voice, 28 to 30 s
LEVELS = "30,50"


@dataclass(frozen=True)
class Part:
    """One comparison."""

    name: str
    methods: str
    schedules: str
    start_layer: int
    positions: str

    @property
    def output(self) -> Path:
        """Its result file."""
        return RESULTS / f"{self.name}-{self.positions}.json"

    @property
    def words(self) -> tuple[str, ...]:
        """Its command, behind the name of the program."""
        clips = (SETS / f"{CLIPS}.jsonl").relative_to(ROOT)
        return (
            *("compare", "demo/model", "--manifest", str(clips), "--task", "asr"),
            *("--methods", self.methods, "--schedules", self.schedules, "--flops", LEVELS),
            *("--start-layer", str(self.start_layer), "--positions", self.positions, "--threads", "1"),
            *("-o", str(self.output.relative_to(ROOT))),
        )


KINDS = (
    ("merges", "weighted_merge,average_merge,uniform_merge,segment_evict", "constant,single,input", 2),
    ("affinity", "affinity_pooling", "input_and_single", 8),
    ("selection", "group_select,sa_map", "input", 2),  # before all layers, as published
)
PARTS = tuple(Part(*kind, positions) for kind, positions in product(KINDS, POSITIONS))


def measure() -> None:
    """Run what has no result yet."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    if not (SETS / f"{CLIPS}.jsonl").is_file():
        _run([str(ROOT / "demo/evaluation_sets.py"), "-o", str(SETS)])
    for part in PARTS:
        if not part.output.is_file():
            _run(["-P", "-m", "fastadasp.export", *part.words])


def table() -> Iterator[str]:
    """A row a method, schedule and kind of positions; error rates with their intervals."""
    levels = [f"{level} % of the FLOPs less" for level in LEVELS.split(",")]
    yield _line("method, schedule", "start layer", "positions", *levels)
    yield _line(*["---"] * (3 + len(levels)))
    for part in PARTS:
        if not part.output.is_file():
            continue
        (file,) = read_results([part.output]).of(ComparisonResult)
        found: ComparisonResult = file.found
        for row in found.rows:
            start = str(row.start_layer) if row.schedule != "input" else "-"
            yield _line(row.label, start, part.positions, *(_cell(found, cell) for cell in row.cells))
        full = _cell(found, found.full)
    yield _line("full model", "", "", *[full] * len(levels))


def _cell(found: ComparisonResult, cell: CellRecord) -> str:
    metric = found.metrics[0]
    return cell.unmet or estimate_text(metric, figure_of(metric, cell.figures))


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _run(words: list[str]) -> None:
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True)


def main() -> None:
    """Measure, unless only the table of what is there is asked for."""
    if "--table-only" not in sys.argv[1:]:
        measure()
    print("\n".join(table()))
    if missing := [part.output.name for part in PARTS if not part.output.is_file()]:
        print(f"\nNot measured yet: {', '.join(missing)}.")


if __name__ == "__main__":
    main()
