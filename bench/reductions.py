"""Measure every method, schedule and kind of positions on several models, and write what comes out.

    python bench/reductions.py                    # what has no result yet; a run that was stopped goes on
    python bench/reductions.py --grid complete    # all levels and seeds, not the grid of each model
    python bench/reductions.py --page-only        # what is written from results, again

Models are the demo's and those that `make train-pretrained` has left in the work folder; clips are human
speech of about 5, 15 and 30 s, made where they are missing. One result file is that of one
`fastadasp-export compare`, which the page names; they lie in bench/results/reductions, and those of another
checkpoint of the same name are refused. All settings are those of a grid below, chosen before any result, and
the same for every method.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
from evaluated import ROOT, hold_to_checkpoints, name_of, names_of, placed, run, table_row

from fastadasp.evaluation.metrics.word_errors import DETAILS, KINDS
from fastadasp.evaluation.results.comparison import CellRecord, ComparisonResult, RowRecord, called
from fastadasp.evaluation.results.figure_text import figure_of
from fastadasp.evaluation.results.figures import Difference
from fastadasp.evaluation.results.files import read_results
from fastadasp.export.studies.compare.formats import GROUP
from fastadasp.export.studies.compare.grid import BUDGET_METHOD, BUDGET_SCHEDULE
from fastadasp.export.studies.compare.unmet import off_budget
from fastadasp.export.studies.positions import MEASURED
from fastadasp.profiles.keys import COMPACT, KEPT
from fastadasp.profiles.methods import VARIANTS
from fastadasp.profiles.schedule import INPUT, INPUT_AND_SINGLE
from fastadasp.runtime.environment import Environment
from fastadasp.runtime.tables.units import in_percent

RESULTS = ROOT / "bench/results/reductions"
PAGE = ROOT / "docs/reductions.md"
SUMMARY_PAGE = ROOT / "docs/accuracy.md"
COUNTS = ROOT / "export/studies" / MEASURED
BEGIN = "<!-- written by bench/reductions.py -->"
BEGIN_INPUT = "<!-- reducers before the decoder, written by bench/reductions.py -->"
SETS = {5: "human", 15: "human-15", 30: "human-30"}
"""By the length of the clips in seconds: sets that both scripts of sets make."""
MAX_NEW_TOKENS = {5: 64, 15: 128, 30: 256}  # twice as many as any transcript has
SEED = 0  # of the clips that are drawn where a set has more
AT_ONCE = 1 + GROUP  # profiles whose steps are shared: `full`, and all that are answered with it
PAPER = "weighted_merge"  # what reducers before the decoder stand beside
SHOWN_LEVEL = Fraction(1, 2)  # of the FLOPs, at which they do
DECIDING = {"wer": "WER", "token_loss": "loss"}  # by which of them pairs are told apart
ALL_LEVELS, SOME_LEVELS, OTHER_LEVELS = "10,20,30,40,50", "30,50", "10,20,40"


COUNTED = """\
# Written by bench/reductions.py: in how many comparisons of the same rows, by WER and by loss, at every level
# and length, on models that have most words right, each kind of positions lost less by a 95 % interval."""

INTRODUCTION = """\
Written by `python bench/reductions.py` (`make reductions`) from bench/results/reductions. What they come to
is told in [accuracy.md](accuracy.md); the models are that of the demo and those of
[pretrained_model.md](pretrained_model.md). Brackets hold 95 % intervals over the clips, behind a sign those
of a paired difference; \\* marks a difference whose interval excludes 0, of a loss that from the full model.
Cells of a column remove the same share of the prefill FLOPs; `at` says which where that is more than a point
off. H2O removes none: its caches keep as many rows as those of FastAdaSP, constant, on clips of the length
that levels are solved for, and `keeps` says how many where that is more than a point off. Where a set has
more clips, they are drawn under seed 0, once for all tables of a length.
""".splitlines()


@dataclass(frozen=True)
class Grid:
    """How much is measured, by the length of the clips."""

    levels: dict[int, str]
    clips: dict[int, int]  # at most
    seeds: int  # of random methods
    goes_on: str = ""  # the grid whose clips these are, at other levels


SMALL = {5: 40, 15: 20, 30: 12}
GRIDS = {
    "complete": Grid(dict.fromkeys(SETS, ALL_LEVELS), {5: 200, 15: 40, 30: 40}, 3),
    "coarse": Grid({5: ALL_LEVELS, 15: SOME_LEVELS, 30: SOME_LEVELS}, {5: 60, 15: 40, 30: 24}, 1),
    "small": Grid(dict.fromkeys(SETS, SOME_LEVELS), SMALL, 1),
    "between": Grid(dict.fromkeys(SETS, OTHER_LEVELS), SMALL, 1, goes_on="small"),
    "coarse_between": Grid({15: OTHER_LEVELS, 30: OTHER_LEVELS}, {15: 40, 30: 24}, 1, goes_on="coarse"),
}
"""The first one of which there is a result is shown, and what goes on from it."""


@dataclass(frozen=True)
class Model:
    """A checkpoint, and clips of its language and prompt."""

    name: str
    checkpoint: Path
    sets: Path
    set_script: tuple[str, ...]  # makes the sets
    normalizer: str
    grid: str  # that is measured if no other one is asked for, with what goes on from it

    @property
    def layers(self) -> int:
        """Of the decoder."""
        config = json.loads((self.checkpoint / "config.json").read_text("utf-8"))
        return int(config["text_config"]["num_hidden_layers"])


def models(work: Path) -> tuple[Model, ...]:
    """The demo, and what the second recipe has left."""
    own = ROOT / "build/evaluation"
    own_script = "demo/evaluation_sets.py", "-o", str(own)
    demo = Model("demo", ROOT / "demo/model", own, own_script, "basic", "coarse")
    script = "demo/pretrained_sets.py", "--work", str(work)
    found = sorted(path.parent for path in work.glob("model-*/config.json"))
    return (
        demo,
        *(
            Model(folder.name.removeprefix("model-"), folder, work / "sets", script, "english", "small")
            for folder in found
        ),
    )


@dataclass(frozen=True)
class Part:
    """One comparison: the rows that begin in an early layer, or what is published for a deep one."""

    seconds: int
    grid: str
    methods: str
    schedules: str
    kind: str = ""

    def output(self, model: str) -> Path:
        """Its result file."""
        return RESULTS / ".".join(filter(None, (model, f"{self.seconds}s", self.kind, self.grid, "json")))

    def words(self, model: Model, clips: Path) -> list[str]:
        """Its command, behind the name of the program."""
        grid, start = GRIDS[self.grid], 2 * model.layers // 3 if self.kind else 2
        return [
            *("compare", name_of(model.checkpoint), "--manifest", name_of(clips), "--task", "asr"),
            *("--methods", self.methods, "--schedules", self.schedules),
            *("--flops", grid.levels[self.seconds], "--start-layer", str(start)),
            *("--positions", "compact,kept", "--seeds", str(grid.seeds), "--token-loss"),
            *("--max-new-tokens", str(MAX_NEW_TOKENS[self.seconds]), "--normalizer", model.normalizer),
            *("--at-once", str(AT_ONCE), "--workers", "2", "--threads", "1"),
            *("-o", name_of(self.output(model.name))),
        ]


def whole(grid: str) -> list[str]:
    """A grid, and those that go on from it."""
    return [grid, *(name for name, other in GRIDS.items() if other.goes_on == grid)]


def parts(grid: str, lengths: Iterable[int] = SETS) -> Iterator[Part]:
    """All comparisons of a grid, short clips first."""
    for seconds in (each for each in lengths if each in GRIDS[grid].levels):
        yield Part(seconds, grid, "all", "single,constant,decay,input")
        yield Part(seconds, grid, "affinity_pooling", "input_and_single", "deep")


def measure(model: Model, grid: str, lengths: Iterable[int]) -> None:
    """Run what has no result yet."""
    if not all((model.sets / f"{name}.jsonl").is_file() for name in SETS.values()):
        run(list(model.set_script))
    for part in parts(grid, lengths):
        if not part.output(model.name).is_file():
            clips = drawn(model.sets / f"{SETS[part.seconds]}.jsonl", GRIDS[grid].clips[part.seconds])
            run(["-P", "-m", "fastadasp.export", *part.words(model, clips)], part.output(model.name))


def drawn(clips: Path, count: int) -> Path:
    """A clip list of some transcripts of a set, drawn at random and in their order; beside the set."""
    lines = [line for line in clips.read_text("utf-8").splitlines() if json.loads(line)["task"] == "asr"]
    places = np.random.default_rng(SEED).permutation(len(lines))[:count]
    found = clips.with_name(f"{clips.stem}.{min(count, len(lines))}.jsonl")
    found.write_text("".join(f"{lines[place]}\n" for place in sorted(places.tolist())), "utf-8")
    return found


@dataclass(frozen=True)
class Table:
    """What was measured of a model at one length."""

    model: str
    seconds: int
    grid: str
    found: tuple[ComparisonResult, ...]  # of the same clips and levels

    @property
    def title(self) -> str:
        """For a heading."""
        text = f"{self.model}, {SETS[self.seconds]}, about {self.mean_seconds} s"
        return f"{text}, other levels" if GRIDS[self.grid].goes_on else text

    @property
    def mean_seconds(self) -> str:
        """Of the clips, for which the levels are solved."""
        return f"{self.found[0].protocol.reference_audio_seconds:g}"

    @property
    def rows(self) -> Iterator[RowRecord]:
        """Of all comparisons."""
        return (row for each in self.found for row in each.rows)

    @property
    def words_right(self) -> float:
        """The share of the words that the full model has right."""
        return self.found[0].full.figures[KINDS[-1].name].value or 0.0

    @property
    def is_heard(self) -> bool:
        """Whether the full model hears such audio, so that a reduction can spoil it: most words are right."""
        return self.words_right > 0.5


def tables() -> list[Table]:
    """Of all results that are there: the demo's first, and of a length the fullest grid."""
    names, found = names_of(RESULTS), list[Table]()
    for name, seconds in product(sorted(names, key=lambda name: (name != "demo", name)), SETS):
        there = {grid: paths for grid in GRIDS if (paths := _results(name, seconds, grid))}
        for grid, paths in there.items():
            if next(iter(there)) in (grid, GRIDS[grid].goes_on):
                files = read_results(paths).of(ComparisonResult)
                found.append(Table(name, seconds, grid, tuple(file.found for file in files)))
    return found


def _results(model: str, seconds: int, grid: str) -> list[Path]:
    """The files that are there."""
    paths = (part.output(model) for part in parts(grid, (seconds,)))
    return [path for path in paths if path.is_file()]


def page(found: Sequence[Table]) -> str:
    """The content of docs/reductions.md."""
    lines = ["# Reductions on two models: the tables", "", *INTRODUCTION, "", *not_measured(found), ""]
    lines += published()
    lines += overview([table for table in found if not GRIDS[table.grid].goes_on])
    for table in found:
        lines += ["", *section(table)]
    return "\n".join(lines) + "\n"


def published() -> Iterator[str]:
    """What the paper has of speech recognition."""
    paper = tomllib.loads((Path(__file__).parent / "paper_tables.toml").read_text("utf-8"))["asr"]
    yield f"Published, with `compact` positions: {paper['table']}; full model {paper['full']}. Its model is a"
    yield "thousand times larger and its clips are others: only the order of the methods can be compared."
    yield ""
    yield table_row("method", *(f"{level} %" for level in ALL_LEVELS.split(",")))
    yield table_row(*["---"] * 6)
    for row, values in paper["rows"].items():
        name, _, schedule = row.partition(" ")
        yield table_row(called(name, schedule), *map(str, values))


def overview(found: Sequence[Table]) -> Iterator[str]:
    """The losses of all tables beside each other, at the levels that all have."""
    if not found:
        return
    yield from ("", "## Losses of all tables", "")
    yield (
        "Loss per token of the right transcript, less that of the full model, with kept / compact positions. "
        "`at` is left out here: the tables below have it."
    )
    levels = [set(table.found[0].levels) for table in found]
    for level in sorted(set.intersection(*levels)):
        changes = [_loss_changes(table, level) for table in found]
        yield from ("", f"At {in_percent(level)} % of the FLOPs:", "")
        yield table_row("method, schedule", *(f"{table.model}, {table.mean_seconds} s" for table in found))
        yield table_row(*["---"] * (1 + len(found)))
        for row in dict.fromkeys(name for each in changes for name in each):
            yield table_row(row, *(each.get(row, "-") for each in changes))


def _loss_changes(table: Table, level: Fraction) -> dict[str, str]:
    """Method and schedule -> what its kinds of positions cost."""
    found: dict[str, dict[str, str]] = {}
    for row in table.rows:
        for cell in row.cells:
            if cell.level == level and cell.figures and (change := cell.figures["token_loss"].delta):
                kinds = found.setdefault(called(row.method, row.schedule), {})
                kinds[row.positions] = f"{change.value:+z.2f}{_mark(change)}"
    order = KEPT, COMPACT, ""  # methods of caches have no choice
    return {name: " / ".join(kinds[kind] for kind in order if kind in kinds) for name, kinds in found.items()}


def not_measured(found: Sequence[Table]) -> Iterator[str]:
    """What is still to come: whole tables, and what others lack."""
    if missing := [*missing_tables(found), *gaps(found)]:
        yield f"**Not measured yet**: {'; '.join(missing)}."


def missing_tables(found: Sequence[Table]) -> list[str]:
    """Of the demo and of every model of the second recipe that has a table, or of the whole recipe."""
    there = {(table.model, table.seconds) for table in found}
    names = ("demo", *sorted({model for model, _ in there if model != "demo"}))
    missing = [
        f"{name} on {SETS[seconds]}" for name in names for seconds in SETS if (name, seconds) not in there
    ]
    return missing if len(names) > 1 else [*missing, "the second model"]


def gaps(found: Sequence[Table]) -> Iterator[str]:
    """Levels that the tables of a model and length lack for all methods, and for single ones."""
    every = {Fraction(level) / 100 for level in ALL_LEVELS.split(",")}
    for name, seconds in dict.fromkeys((table.model, table.seconds) for table in found):
        there = [table for table in found if (table.model, table.seconds) == (name, seconds)]
        lacking = {method: set(every) for method in VARIANTS}
        for row in (row for table in there for row in table.rows):
            lacking[row.method] -= {cell.level for cell in row.cells}
        of_all = set.intersection(*lacking.values())
        if of_all:
            yield f"{name} on {SETS[seconds]} at {_levels(of_all)}"
        for method, levels in lacking.items():
            if levels - of_all:
                yield f"{name} on {SETS[seconds]}: {called(method)} at {_levels(levels - of_all)}"


def _levels(levels: Iterable[Fraction]) -> str:
    return f"{', '.join(map(in_percent, sorted(levels)))} %"


def section(table: Table) -> Iterator[str]:
    """Commands, error rates, what the errors are, and kept positions against compact ones."""
    first = table.found[0]
    yield f"## {table.title}"
    yield ""
    yield "```text"
    for part in _parts_of(table):
        yield f"fastadasp-export {part}"
    yield "```"
    yield ""
    yield (
        f"{first.clips.measured} clips, levels solved for {table.mean_seconds} s; "
        f"{_machine(first.environment)}"
    )
    yield ""
    yield f"WER %, and how many points that is more than the full model has; full model {_full(first)}"
    yield ""
    yield from _grid(table, lambda cell: _wer(first, cell) + _keeps(table, cell))
    yield ""
    yield (
        "Words substituted / left out / added / right in % · loss per token of the right transcript · short "
        "answers, and answers that ran to the limit of tokens, in % of the clips; full model "
        f"{_kinds(first, first.full)}"
    )
    yield ""
    yield from _grid(table, lambda cell: _kinds(first, cell))
    yield ""
    yield "Kept positions less compact ones: points of WER · loss per token"
    yield ""
    yield from _grid(table, lambda cell: _pair(first, cell), skip="")


def _parts_of(table: Table) -> Iterator[str]:
    for each in table.found:
        rows = dict.fromkeys(row.schedule for row in each.rows)
        yield (
            f"compare … --schedules {','.join(rows)} --flops {','.join(map(in_percent, each.levels))} "
            f"--start-layer {each.protocol.start_layer} --positions {','.join(each.protocol.positions)} "
            f"--seeds {each.protocol.seeds} --token-loss"
        )


def _grid(table: Table, shown: Callable[[CellRecord], str], skip: str | None = None) -> Iterator[str]:
    """A line a row; without rows all of whose cells are `skip`."""
    levels = [f"{in_percent(level)} %" for level in table.found[0].levels]
    yield table_row("method, positions, schedule", *levels)
    yield table_row(*["---"] * (1 + len(levels)))
    for row in table.rows:
        cells = [shown(cell) for cell in row.cells]
        if any(cell != skip for cell in cells):
            yield table_row(row.label, *cells)


def _full(found: ComparisonResult) -> str:
    measured = figure_of(found.metrics[0], found.full.figures)
    return f"{measured.value:.1f} [{measured.low:.1f}, {measured.high:.1f}]"


def _wer(found: ComparisonResult, cell: CellRecord) -> str:
    if not cell.figures:
        return cell.unmet or "-"
    measured = cell.figures[found.metrics[0].name]
    if measured.value is None or measured.delta is None:
        return "-"
    return f"{100 * measured.value:.1f}, {_change(measured.delta, 100, 1)}{_at(cell)}"


def _change(change: Difference, scale: float, digits: int) -> str:
    """With its interval, and a mark where that excludes 0."""
    value, *ends = (
        "-" if each is None else f"{scale * each:+z.{digits}f}"
        for each in (change.value, change.low, change.high)
    )
    return f"{value} [{', '.join(ends)}]{_mark(change)}"


def _at(cell: CellRecord) -> str:
    """What it removes, where that is more than a point off its column."""
    is_off = cell.flops_reduction and abs(cell.achieved_percent - cell.percent) > 1
    return f" (at {cell.achieved_percent:.0f} %)" if is_off else ""


def _keeps(table: Table, cell: CellRecord) -> str:
    """What caches that are shortened alone keep, and their budget, where that is more than a point off."""
    if cell.flops_reduction != 0:
        return ""
    rows = (row for row in table.rows if (row.method, row.schedule) == (BUDGET_METHOD, BUDGET_SCHEDULE))
    budgets = (each.kept_ratio for row in rows for each in row.cells if each.level == cell.level)
    budget = next(budgets, None)
    kept = off_budget(cell, budget)
    return "" if kept is None or budget is None else f" (keeps {100 * kept:.1f} % for {100 * budget:.1f} %)"


def _kinds(found: ComparisonResult, cell: CellRecord) -> str:
    if not cell.figures:
        return "-"
    shares = [100 * (cell.figures[detail.name].value or 0.0) for detail in DETAILS]
    words, short = " / ".join(f"{share:.1f}" for share in shares[:4]), shares[4]
    loss, limit = cell.figures["token_loss"], 100 * (cell.cut_off or 0.0)
    return f"{words} · {loss.value:.2f}{_mark(loss.delta)} · {short:.0f}, {limit:.0f}"


def _pair(found: ComparisonResult, cell: CellRecord) -> str:
    changes = [cell.from_compact.get(name) for name in (found.metrics[0].name, "token_loss")]
    return " · ".join(
        _change(each, scale, digits)
        for each, scale, digits in zip(changes, (100, 1), (1, 2), strict=True)
        if each is not None
    )


def _mark(change: Difference | None) -> str:
    return "\\*" if change is not None and sign(change) else ""


def sign(change: Difference) -> int:
    """-1 or 1 where the interval excludes 0, or else 0."""
    if change.low is None or change.high is None:
        return 0
    return (change.low > 0) - (change.high < 0)


def told_apart(table: Table, metric: str) -> Iterator[tuple[RowRecord, CellRecord, int]]:
    """Each cell of kept positions, and the `sign` of its difference from that of compact ones."""
    for row in table.rows:
        for cell in row.cells:
            if metric in cell.from_compact:
                yield row, cell, sign(cell.from_compact[metric])


@dataclass(frozen=True)
class Comparisons:
    """How kept positions did against compact ones, cell by cell; what is compared is better when lower."""

    signs: tuple[int, ...]  # as `told_apart` has them

    @classmethod
    def of(cls, found: Iterable[Table], metrics: Iterable[str] = DECIDING) -> Comparisons:
        """Of all tables by all metrics."""
        apart = (told_apart(table, metric) for table, metric in product(found, metrics))
        return cls(tuple(found for each in apart for *_, found in each))

    @property
    def better(self) -> int:
        """In how many kept positions are better."""
        return self.signs.count(-1)

    @property
    def worse(self) -> int:
        """In how many they are worse."""
        return self.signs.count(1)

    def __str__(self) -> str:
        return f"{self.better} / {self.worse} / {self.signs.count(0)}"


def summary(found: Sequence[Table]) -> Iterator[str]:
    """What accuracy.md says of all tables: kept against compact positions, and whether the default holds."""
    yield from not_measured(found)
    if not found:
        return
    yield ""
    columns = ("model, clips", "words right, full model", "WER", "loss per token", "least and most of WER")
    yield table_row(*columns)
    yield table_row(*["---"] * len(columns))
    for table in found:
        pairs = (str(Comparisons.of([table], [metric])) for metric in DECIDING)
        yield table_row(table.title, f"{100 * table.words_right:.0f} %", *pairs, _range(table))
    yield ""
    yield (
        "By WER and by loss, pairs in which kept positions are better / worse / not told apart from compact "
        "ones, by paired 95 % intervals, without a correction for their number; and the differences of WER, "
        "kept less compact. All tables: [reductions.md](reductions.md)."
    )
    yield ""
    yield from verdict(found)


def _range(table: Table) -> str:
    cells = [cell for row in table.rows for cell in row.cells if "wer" in cell.from_compact]
    values = sorted(100 * cell.from_compact["wer"].value for cell in cells)
    return f"{values[0]:+.1f} to {values[-1]:+.1f} points" if values else "-"


def verdict(found: Sequence[Table]) -> Iterator[str]:
    """Whether kept positions are at least as good in every table of both models, and better in some."""
    every, heard = Comparisons.of(found), Comparisons.of(table for table in found if table.is_heard)
    if every.worse:
        yield (
            f"**Kept positions are worse in {every.worse} of {len(every.signs)} comparisons and better in "
            f"{every.better}**; in tables whose full model has most words right, in {heard.worse} of "
            f"{len(heard.signs)} and in {heard.better}. Were both kinds alike, one in forty would come out "
            "worse by chance, and somewhat more on clips as few as these:"
        )
        yield ""
        for table, (metric, title) in product(found, DECIDING.items()):
            if pairs := list(_worse_pairs(table, metric)):
                count = len(list(told_apart(table, metric)))
                yield f"* {title}, {table.title}, {len(pairs)} of {count}: {'; '.join(pairs)}."
    elif missing_tables(found):
        yield (
            "Kept positions are worse in no pair so far. **The tables that are missing decide**: until they "
            "are measured, the built-in profiles keep the published `compact`."
        )
    else:
        yield "Kept positions are worse in no pair of any model."


def _worse_pairs(table: Table, metric: str) -> Iterator[str]:
    for row, cell, change in told_apart(table, metric):
        if change > 0:
            yield f"{called(row.method)} {row.schedule} at {cell.percent:g} %"


def write_pages() -> None:
    """The tables, what they come to in the page on accuracy, and what `profiles show` and `tune` tell."""
    found = tables()
    COUNTS.write_text(counts(found), "utf-8")
    PAGE.write_text(page(found), "utf-8")
    SUMMARY_PAGE.write_text(with_summary(SUMMARY_PAGE.read_text("utf-8"), found), "utf-8")


def counts(found: Sequence[Table]) -> str:
    """By method, schedule and length, in how many comparisons each kind of positions lost less."""
    signs: dict[str, dict[str, dict[int, list[int]]]] = {}
    for table, metric in product((table for table in found if table.is_heard), DECIDING):
        for row, _, change in told_apart(table, metric):
            schedules = signs.setdefault(called(row.method), {})
            schedules.setdefault(row.schedule, {}).setdefault(table.seconds, []).append(change)
    lines = [COUNTED]
    for method, schedules in signs.items():
        for schedule, lengths in schedules.items():
            lines += ["", f'["{method}".{schedule}]']
            lines += (
                f'"{seconds} s" = {{ kept = {each.count(-1)}, compact = {each.count(1)}, '
                f"compared = {len(each)} }}"
                for seconds, each in sorted(lengths.items())
            )
    return "\n".join(lines) + "\n"


def with_summary(page: str, found: Sequence[Table]) -> str:
    """The page on accuracy with the summary and the reducers before the decoder between their marks."""
    page = placed(page, BEGIN, "\n".join(summary(found)))
    return placed(page, BEGIN_INPUT, "\n".join(before_the_decoder(found)))


def before_the_decoder(found: Sequence[Table]) -> Iterator[str]:
    """What reducers before the decoder cost beside the paper's method in it, with kept positions."""
    shown = [table for table in found if SHOWN_LEVEL in table.found[0].levels]
    yield (
        f"Loss per token of the right transcript at {in_percent(SHOWN_LEVEL)} % of the FLOPs, less that of "
        "the full model, with kept positions; brackets hold 95 % intervals, \\* marks those that exclude 0:"
    )
    yield ""
    yield table_row("method, schedule", *(f"{table.model}, {table.mean_seconds} s" for table in shown))
    yield table_row(*["---"] * (1 + len(shown)))
    costs = [dict(_input_costs(table)) for table in shown]
    for row in dict.fromkeys(name for each in costs for name in each):
        yield table_row(row, *(each.get(row, "-") for each in costs))


def _input_costs(table: Table) -> Iterator[tuple[str, str]]:
    for row in table.rows:
        if row.positions == KEPT and (row.method == PAPER or row.schedule in (INPUT, INPUT_AND_SINGLE)):
            for cell in row.cells:
                if cell.level == SHOWN_LEVEL and cell.figures:
                    yield called(row.method, row.schedule), _cost(cell)


def _cost(cell: CellRecord) -> str:
    change = cell.figures["token_loss"].delta
    if change is None:
        return "-"
    return f"{_change(change, 1, 2)}{_at(cell)}"


def _machine(environment: Environment) -> str:
    libraries = environment.libraries
    return (
        f"{environment.cpu}, {environment.workers} processes of {environment.threads} thread; "
        f"onnxruntime {libraries['onnxruntime']}, jiwer {libraries['jiwer']}."
    )


def main() -> None:
    """Measure, then write the pages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=ROOT / "build/pretrained", help="of the second recipe")
    parser.add_argument("--models", help="names separated by commas, such as demo,seed-0; all if left out")
    parser.add_argument("--seconds", help="lengths separated by commas; 5,15,30 if left out")
    parser.add_argument("--grid", choices=GRIDS, help="all levels of the model's own one, if left out")
    parser.add_argument("--page-only", action="store_true", help="from results that are there")
    options = parser.parse_args()
    if not options.page_only:
        known = {model.name: model for model in models(options.work.resolve())}
        lengths = [int(text) for text in options.seconds.split(",")] if options.seconds else list(SETS)
        names = options.models.split(",") if options.models else list(known)
        if options.grid and options.seconds and (others := set(lengths) - GRIDS[options.grid].levels.keys()):
            parser.error(f"--grid {options.grid} has no clips of {', '.join(map(str, others))} s")
        hold_to_checkpoints(RESULTS, {name: known[name].checkpoint for name in names})
        for name in names:
            for grid in [options.grid] if options.grid else whole(known[name].grid):
                measure(known[name], grid, lengths)
    write_pages()


if __name__ == "__main__":
    main()
