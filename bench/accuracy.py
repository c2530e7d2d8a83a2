"""Measure what token reduction costs the demo model in accuracy, and write docs/accuracy.md from the figures.

    python bench/accuracy.py              # all of it; a run that was stopped goes on
    python bench/accuracy.py --page-only  # the page again, from figures that are there

Every table is the output of a command of `fastadasp-export`, which the page names. Clips are those of
`demo/evaluation_sets.py`. Published figures of another model (`bench/paper_tables.toml`) stand beside for the
order of the methods; the values themselves cannot be compared. Results lie in build/accuracy; those of
another demo model are refused, not mixed with.
"""

from __future__ import annotations

import argparse
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import reductions
from evaluated import ROOT, hold_to_checkpoints, name_of, run, table_row

from fastadasp.evaluation.metrics.metric import Metric
from fastadasp.evaluation.metrics.word_errors import is_detail
from fastadasp.evaluation.results.comparison import CellRecord, ComparisonResult, RowRecord
from fastadasp.evaluation.results.figures import Measured
from fastadasp.evaluation.results.files import read_results
from fastadasp.evaluation.results.selection import LayerFigures, SelectionResult
from fastadasp.runtime.environment import Environment
from fastadasp.runtime.tables.units import in_percent

SETS = ROOT / "build/evaluation"
WORK = ROOT / "build/accuracy"
FINDINGS = Path(__file__).parent / "accuracy_findings.md"
PAGE = ROOT / "docs/accuracy.md"
PAPER = tomllib.loads((Path(__file__).parent / "paper_tables.toml").read_text("utf-8"))
FLOPS = "10,20,30,40,50"


@dataclass(frozen=True)
class Table:
    """One comparison."""

    name: str
    title: str
    clips: str  # a set of demo/evaluation_sets.py
    task: str
    schedules: str
    paper: str | None = None  # a table of bench/paper_tables.toml
    positions: str = "compact"

    @property
    def is_sparse(self) -> bool:
        """Whether one merge in one layer makes the whole reduction."""
        return self.schedules == "single"


COMPACT = (
    Table("asr", "Speech recognition, human voice, 2 to 10 s", "human", "asr", "constant,decay", "asr"),
    Table("classify", "Speaking style, synthetic voices", "synthetic", "classify", "single", "classify"),
    Table("caption", "Captions, synthetic voices", "synthetic", "caption", "single", "caption"),
    Table("qa", "Spoken questions, human voice", "human", "qa", "single"),
    Table(
        "translate",
        "Word-level translation, human voice",
        "human",
        "translate",
        "constant,decay",
        "translate",
    ),
    Table(
        "asr-30", "Speech recognition, human voice, 28 to 30 s", "human-30", "asr", "constant,decay", "asr"
    ),
)
KEPT = tuple(
    replace(
        table, name=f"{table.name}-kept", title=f"Kept positions: {table.title}", paper=None, positions="kept"
    )
    for table in COMPACT
)
BEFORE = tuple(
    replace(
        table,
        name=f"{table.name}-input",
        title=f"Before the first layer: {table.title}",
        schedules="input,input_and_single",
        paper=None,
        positions="compact,kept",
    )
    for table in COMPACT
    if table.task != "asr"  # of which docs/reductions.md has these rows
)
TABLES = (*COMPACT, *KEPT, *BEFORE)
EARLY = 2  # of the demo's 12 layers, the one that reductions start from
DEEP = 8  # where Affinity Pooling has its second one
INTRODUCTION = """\
Written by `python bench/accuracy.py` from the results of the commands below, whose clip lists
`python demo/evaluation_sets.py -o build/evaluation` makes. Nothing here was tuned to look
like the published tables ([Lu et al., 2024](https://arxiv.org/abs/2410.03007)): those are of another model, a
thousand times larger, and stand beside for the order of the methods. \\* marks a figure whose paired 95 %
bootstrap interval of the difference from the full model
excludes 0; brackets hold its own 95 % interval. Figures of random methods are means over three seeds, in
the tables of this page. H2O removes no FLOPs: its caches keep as many audio rows as those of FastAdaSP,
constant, in the same column. Where a method removes another share than its column says, the cell says so.
Intervals draw recordings: clips that are of one, as questions about it, are drawn together.
""".splitlines()


@dataclass(frozen=True)
class Layers:
    """One layer selection with the accuracy at every layer beside it."""

    name: str
    title: str
    clips: str
    task: str
    paper: str = ""
    positions: str = "compact"


LAYERS = (
    Layers(
        "layers",
        "speaking style, synthetic voices",
        "synthetic",
        "classify",
        "The paper's Table 6 selects layer 3 of 32, with a transfer entropy of 2.06; emotion recognition "
        "under the merge there 55.17 · 55.05 · 54.4 · 53.86 · 52.14 %.",
    ),
    Layers("layers-asr", "speech recognition, human voice, 2 to 10 s", "human", "asr"),
    Layers(
        "layers-asr-kept",
        "kept positions, speech recognition, human voice, 2 to 10 s",
        "human",
        "asr",
        positions="kept",
    ),
)
SPARSE = LAYERS[0]  # whose layer the single merges of the other tables take


def commands(workers: int) -> Iterator[tuple[Path, list[str]]]:
    """Every command with the file it writes; the layer of a single merge is chosen before it is used."""
    for layers in LAYERS:
        output = WORK / f"{layers.name}.json"
        yield (
            output,
            [
                *("select-layer", "demo/model", "--manifest", f"build/evaluation/{layers.clips}.jsonl"),
                *("--task", layers.task, *_positions(layers), "--flops", "50"),
                *("--accuracy", "--flops-levels", FLOPS),
                *("--threads", "1", "-o", name_of(output.with_suffix(".toml")), "--json", name_of(output)),
            ],
        )
    for table in TABLES:
        output = WORK / f"{table.name}.json"
        yield (
            output,
            [
                *("compare", "demo/model", "--manifest", f"build/evaluation/{table.clips}.jsonl"),
                *("--task", table.task, "--methods", "all", "--schedules", table.schedules, "--flops", FLOPS),
                *("--start-layer", str(_start_layer(table)), *_positions(table)),
                *("--workers", str(workers), "-o", name_of(output)),
            ],
        )


def _start_layer(table: Table) -> int:
    if table.is_sparse:
        return _selection(SPARSE).selected
    return DEEP if table in BEFORE else EARLY


def _positions(part: Table | Layers) -> tuple[str, ...]:
    return () if part.positions == "compact" else ("--positions", part.positions)


def measure(workers: int) -> None:
    """Run what has no result yet."""
    hold_to_checkpoints(WORK, {"demo": ROOT / "demo/model"}, "*.json")
    if not (SETS / "synthetic-30.jsonl").is_file():
        run([str(ROOT / "demo/evaluation_sets.py"), "-o", str(SETS)])
    for output, command in commands(workers):
        if not output.is_file():
            begin = time.perf_counter()
            run(["-P", "-m", "fastadasp.export", *command], output)
            print(f"{output.name}: {time.perf_counter() - begin:.0f} s", flush=True)


def page() -> str:
    """The content of docs/accuracy.md; a table without a result yet is named as missing.

    Raises:
        SystemExit: there is none of the selection whose layer single merges take, the first that is made.
    """
    if not (first := _path(SPARSE)).is_file():
        sys.exit(
            f"{name_of(first)} is missing, from which single merges have their layer; it and all other "
            "results are made by: python bench/accuracy.py"
        )
    tables = {table: _comparison(table) for table in TABLES if _path(table).is_file()}
    layers = {part: _selection(part) for part in LAYERS if _path(part).is_file()}
    parts: tuple[Table | Layers, ...] = (*TABLES, *LAYERS)
    missing = [part.title for part in parts if not _path(part).is_file()]
    environments = [
        *(one.environment for one in tables.values()),
        *(one.environment for one in layers.values()),
    ]
    lines = [
        "# What token reduction costs",
        "",
        *INTRODUCTION,
        "",
        *_environment(environments[0]),
        *(["", f"**Not measured yet**: {'; '.join(missing)}."] if missing else ()),
        "",
        *FINDINGS.read_text("utf-8").splitlines(),
    ]
    for table, compared in tables.items():
        lines += ["", *_section(table, compared)]
    for part, selected in layers.items():
        lines += ["", *_layers(part, selected)]
    return reductions.with_summary("\n".join(lines) + "\n", reductions.tables())


def _path(part: Table | Layers) -> Path:
    return WORK / f"{part.name}.json"


def _comparison(table: Table) -> ComparisonResult:
    (file,) = read_results([_path(table)]).of(ComparisonResult)
    return file.found


def _selection(layers: Layers) -> SelectionResult:
    (file,) = read_results([_path(layers)]).of(SelectionResult)
    return file.found


def _command(part: Table | Layers) -> Iterator[str]:
    """The command; more workers change no answer."""
    yield "```sh"
    command = next(command for path, command in commands(2) if path == _path(part))
    yield f"fastadasp-export {' '.join(command)}"
    yield "```"


def _section(table: Table, found: ComparisonResult) -> Iterator[str]:
    yield f"## {table.title}"
    yield ""
    yield from _command(table)
    yield ""
    reference = found.protocol.reference_audio_seconds
    yield f"{found.clips.in_words}; ratios solved for {reference:g} s of audio."
    for i, metric in enumerate(found.metrics):
        full = found.full.figures[metric.name]
        if full.value is None or is_detail(metric):
            continue
        yield ""
        yield f"{metric.title}, {metric.better}; full model {_value(metric, full)}"
        yield ""
        yield from _rows(found, metric, PAPER.get(table.paper or "") if i == 0 else None)


def _rows(found: ComparisonResult, metric: Metric, paper: dict[str, Any] | None) -> Iterator[str]:
    levels = [f"{in_percent(level)} %" for level in found.levels]
    yield table_row("method", *levels, *([paper["table"]] if paper else ()))
    yield table_row(*["---"] * (1 + len(levels) + bool(paper)))
    for row in found.rows:
        published = [_published(paper, row)] if paper else []
        yield table_row(row.label, *(_cell(cell, metric) for cell in row.cells), *published)


def _cell(cell: CellRecord, metric: Metric) -> str:
    figure = cell.figures.get(metric.name)
    if figure is None or figure.value is None:
        return cell.unmet or "-"
    text, change = _value(metric, figure), figure.delta
    if change and change.low is not None and change.high is not None and not change.low <= 0 <= change.high:
        text += "\\*"
    if cell.flops_reduction and abs(cell.achieved_percent - cell.percent) > 1:
        text += f" (at {cell.achieved_percent:.0f} %)"
    return text


def _value(metric: Metric, figure: Measured) -> str:
    """The figure with its interval."""
    between = ""
    if figure.low is not None and figure.high is not None:
        between = f" [{_shown(metric, figure.low)}, {_shown(metric, figure.high)}]"
    return _shown(metric, figure.value) + between


def _shown(metric: Metric, value: float | None) -> str:
    """A value as people read it; empty where there is none."""
    digits = 2 if metric.unit == "score" else 1
    return "" if value is None else f"{metric.scale * value:.{digits}f}"


def _published(paper: dict[str, Any], row: RowRecord) -> str:
    rows = paper["rows"]
    found = rows.get(f"{row.method} {row.schedule}", rows.get(row.method))
    return " · ".join(f"{value:g}" for value in found) if found else ""


def _layers(layers: Layers, found: SelectionResult) -> Iterator[str]:
    """Table 6: transfer entropy of each layer beside the accuracy of a merge there."""
    accuracy = found.accuracy
    assert accuracy is not None, "the command asks for it"
    metric, levels = accuracy.metrics[0], accuracy.levels
    yield f"## Transfer entropy and accuracy, layer by layer: {layers.title}"
    yield ""
    yield from _command(layers)
    yield ""
    full = _percent(metric, accuracy.full)
    yield (
        f"{metric.title} % under one merge in each layer, {metric.better}; full model {full}. "
        f"Transfer entropy (TE) at 50 %. Layer {found.selected} has the lowest. {layers.paper}".rstrip()
    )
    yield ""
    yield table_row("layer", "TE", "rank", "first in", *(f"{in_percent(level)} %" for level in levels))
    yield table_row(*["---"] * (4 + len(levels)))
    for row in found.layers:
        figures = (_percent(metric, row.accuracy.get(level, {})) for level in levels)
        yield table_row(str(row.layer), *_entropy(row), *figures)
    best = [str(accuracy.best.get(level, "")) for level in levels]
    yield table_row("the best layer", "", "", "", *best)
    agreement = (accuracy.rank_correlation.get(level) for level in levels)
    shown = ["" if one is None or one.rho is None else f"{one.rho:+.2f}" for one in agreement]
    yield table_row("rank correlation of TE with it", "", "", "", *shown)
    yield ""
    yield "*first in*: the share of resamples of the recordings in which the layer has the lowest TE."


def _entropy(row: LayerFigures) -> tuple[str, str, str]:
    """Transfer entropy, rank, and in which share of the resamples the layer is first."""
    if row.entropy is None:
        return row.infeasible or "", "", ""
    first = "" if row.spread is None else f"{100 * row.spread.best:.0f} %"
    return f"{row.entropy.transfer_entropy:.2f}", str(row.rank), first


def _percent(metric: Metric, figures: Mapping[str, Measured]) -> str:
    """The metric with one decimal; empty where the level cannot be met."""
    found = figures.get(metric.name)
    return "" if found is None or found.value is None else f"{metric.scale * found.value:.1f}"


def _environment(machine: Environment) -> Iterator[str]:
    libraries = ", ".join(f"{name} {version}" for name, version in machine.libraries.items())
    yield f"{machine.cpu}, {machine.cores} cores; Python {machine.python}; {libraries}."


def main() -> None:
    """Measure, then write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--page-only", action="store_true", help="write the page from results that are there")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    if not options.page_only:
        measure(options.workers)
    PAGE.write_text(page(), "utf-8")
    print(f"{PAGE.relative_to(ROOT)} written")


if __name__ == "__main__":
    main()
