"""What the page of the reductions says of result files, and of their absence."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import reductions as measuring
from click.testing import CliRunner

from demo_files import DEMO
from fastadasp.evaluation.metrics.word_errors import KINDS
from fastadasp.evaluation.results.comparison import ComparisonResult, RowRecord
from fastadasp.evaluation.results.figures import Difference, Measured
from fastadasp.evaluation.results.files import read_results, result_text
from fastadasp.export.cli import main
from fastadasp.profiles.methods import VARIANTS

GRID = ("--methods", "weighted_merge,h2o", "--schedules", "constant", "--flops", "30,50")
REAL_RESULTS = measuring.RESULTS
LIKE_THE_SCRIPT = ("--positions", "compact,kept", "--token-loss", "--at-once", "8", "--threads", "1")


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(measuring, "RESULTS", tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> ComparisonResult:
    """What the script's command finds on three clips."""
    folder = tmp_path_factory.mktemp("measured")
    lines = (DEMO / "clips" / "transcripts.jsonl").read_text("utf-8").splitlines()
    chosen = [line for line in lines if '"asr"' in line][:3]
    (folder / "clips.jsonl").write_text("\n".join(chosen), "utf-8")
    words = ["compare", str(DEMO / "model"), "--manifest", str(folder / "clips.jsonl"), "--prompt", "<asr>"]
    words += ["--audio-root", str(DEMO / "clips"), *GRID, *LIKE_THE_SCRIPT, "-o", str(folder / "found.json")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    (file,) = read_results([folder / "found.json"]).of(ComparisonResult)
    return file.found


def with_changes(found: ComparisonResult, low: float, high: float) -> ComparisonResult:
    """The same with one interval of kept positions less compact ones in each pair."""
    change = Difference((low + high) / 2, low, high, 0.01)
    rows = [
        replace(
            row,
            cells=tuple(
                replace(cell, from_compact=dict.fromkeys(cell.from_compact, change)) for cell in row.cells
            ),
        )
        for row in found.rows
    ]
    return replace(found, rows=tuple(rows))


def with_words_right(found: ComparisonResult, share: float) -> ComparisonResult:
    """The same with a full model that hears so many of the words."""
    figures = {**found.full.figures, KINDS[-1].name: Measured(share)}
    return replace(found, full=replace(found.full, figures=figures))


def write(name: str, found: ComparisonResult) -> None:
    (measuring.RESULTS / name).write_text(result_text(found), "utf-8")


def test_without_results_everything_is_named_as_missing() -> None:
    text = measuring.page(measuring.tables())
    assert "**Not measured yet**: demo on human; demo on human-15; demo on human-30; the second model" in text
    (line,) = measuring.summary(measuring.tables())
    assert line in text.splitlines()


def test_every_row_has_its_error_rate_and_every_pair_its_difference(measured: ComparisonResult) -> None:
    write("demo.30s.coarse.json", found := measured)
    text = measuring.page(measuring.tables())
    rates = text.partition("\nWER %, and")[2].splitlines()
    for row in found.rows:
        line = next(line for line in rates if line.startswith(f"| {row.label} |"))
        for cell in row.cells:
            if cell.figures:
                measured = cell.figures["wer"]
                assert f" {100 * measured.value:.1f}, {100 * measured.delta.value:+z.1f} [" in line
    pairs = [cell for row in found.rows for cell in row.cells if cell.from_compact]
    assert pairs
    assert all(f"{cell.from_compact['token_loss'].value:+z.2f} [" in text for cell in pairs)
    changes = [cell.figures["token_loss"].delta for row in found.rows for cell in row.cells if cell.figures]
    overview = text.partition("## Losses of all tables")[2].partition("\n## ")[0]
    assert changes
    assert [change for change in changes if f"{change.value:+z.2f}" not in overview] == []
    assert len(measuring.Comparisons.of(measuring.tables(), ["wer"]).signs) == len(pairs)
    assert all(cell.from_compact.keys() >= {"wer", "token_loss"} for cell in pairs)


def test_caches_that_are_not_those_of_their_budget_are_marked(measured: ComparisonResult) -> None:
    def of(row: RowRecord, share: float) -> RowRecord:
        first, *others = (replace(cell, kept_ratio=0.7) for cell in row.cells)
        return replace(row, cells=(replace(first, kept_ratio=share), *others))

    rows = tuple(of(row, 0.65 if row.method == "h2o" else 0.7) for row in measured.rows)
    write("demo.30s.coarse.json", replace(measured, rows=rows))
    page = measuring.page(measuring.tables())
    assert page.count("(keeps 65.0 % for 70.0 %)") == page.count("(keeps ") == 1


def test_comparisons_are_counted_apart_where_the_model_hears(measured: ComparisonResult) -> None:
    write("demo.5s.coarse.json", with_words_right(with_changes(measured, -0.2, -0.1), 0.6))
    worse = with_changes(measured, 0.1, 0.2)
    write("demo.15s.coarse.json", with_words_right(worse, 0.6))
    write("demo.30s.coarse.json", with_words_right(worse, 0.4))
    pairs = sum(bool(cell.from_compact) for row in measured.rows for cell in row.cells)
    assert pairs
    said = " ".join(measuring.verdict(measuring.tables()))
    assert f"worse in {4 * pairs} of {6 * pairs} comparisons and better in {2 * pairs}**" in said
    assert f"most words right, in {2 * pairs} of {4 * pairs} and in {2 * pairs}." in said
    assert f"* WER, {measuring.tables()[1].title}, {pairs} of {pairs}: FastAdaSP constant at 30 %" in said


def test_the_complete_grid_is_shown_instead_of_the_coarse_one(measured: ComparisonResult) -> None:
    found = measured
    write("demo.30s.coarse.json", found)
    write("demo.30s.complete.json", replace(found, levels=(Fraction(1, 10), *found.levels[1:])))
    (table,) = measuring.tables()
    assert table.found[0].levels[0] == Fraction(1, 10)


def test_other_levels_of_the_small_grid_stand_beside_it_alone(measured: ComparisonResult) -> None:
    write("seed-0.5s.small.json", measured)
    write("seed-0.5s.between.json", measured)
    clips = f"about {measured.protocol.reference_audio_seconds:g} s"
    assert [table.title for table in measuring.tables()] == [
        f"seed-0, human, {clips}",
        f"seed-0, human, {clips}, other levels",
    ]
    write("seed-0.5s.coarse.json", measured)
    (table,) = measuring.tables()
    assert table.grid == "coarse"


def test_what_reduces_before_the_decoder_stands_beside_fastadasp(measured: ComparisonResult) -> None:
    write("demo.15s.coarse.json", measured)
    (row,) = (row for row in measured.rows if row.positions == "kept")
    before = replace(row, method="sa_map", schedule="input")
    write("demo.30s.coarse.json", replace(measured, rows=(*measured.rows, before)))
    *_, head, _, paper, newer = measuring.before_the_decoder(measuring.tables())
    (cost,) = (cell.figures["token_loss"].delta for cell in row.cells if cell.level == Fraction(1, 2))
    assert [len(line.split(" | ")) for line in (head, paper, newer)] == [3, 3, 3]
    assert paper.startswith("| FastAdaSP, constant | ")
    assert paper.count(f"{cost.value:+z.2f} [{cost.low:+z.2f}, {cost.high:+z.2f}]") == 2
    assert newer.startswith("| SA-MAP, input | - | ")


def test_levels_and_methods_that_tables_lack_are_named(measured: ComparisonResult) -> None:
    write("demo.15s.coarse.json", measured)
    others = Fraction(1, 10), Fraction(1, 5)
    first_row, *_ = measured.rows
    cells = (replace(cell, level=level) for cell, level in zip(first_row.cells, others, strict=True))
    between = replace(measured, levels=others, rows=(replace(first_row, cells=tuple(cells)),))
    write("demo.15s.coarse_between.json", between)
    first, *rest = measuring.gaps(measuring.tables())
    assert first == "demo on human-15 at 40 %"
    lacking = dict.fromkeys(VARIANTS, "10, 20, 30, 50 %") | {"h2o": "10, 20 %"}
    del lacking[first_row.method]
    assert rest == [
        f"demo on human-15: {VARIANTS[name].title} at {levels}" for name, levels in lacking.items()
    ]
    assert first in measuring.page(measuring.tables())


@pytest.mark.parametrize(
    ("second", "lengths", "said"),
    [
        (None, measuring.SETS, "tables that are missing decide"),
        ((-0.2, 0.1), (30,), "tables that are missing decide"),
        ((-0.2, 0.1), measuring.SETS, "worse in no pair of any model"),
        ((0.1, 0.2), (30,), "are worse in"),
    ],
)
def test_the_verdict_follows_from_the_pairs(measured: ComparisonResult, second, lengths, said) -> None:
    for seconds in lengths:
        write(f"demo.{seconds}s.coarse.json", with_changes(measured, -0.2, -0.1))
        if second:
            write(f"seed-0.{seconds}s.coarse.json", with_changes(measured, *second))
    verdict = list(measuring.verdict(measuring.tables()))
    assert said in verdict[0]
    assert list(measuring.summary(measuring.tables()))[-len(verdict) :] == verdict


def test_the_same_clips_are_drawn_each_time_and_in_their_order(tmp_path: Path) -> None:
    clips = tmp_path / "human.jsonl"
    lines = [json.dumps({"task": task, "id": i}) for i in range(20) for task in ("asr", "qa")]
    clips.write_text("\n".join(lines), "utf-8")
    first = measuring.drawn(clips, 5).read_text("utf-8")
    ids = [json.loads(line)["id"] for line in first.splitlines()]
    assert ids == sorted(set(ids))
    assert len(ids) == 5
    assert {json.loads(line)["task"] for line in first.splitlines()} == {"asr"}
    assert measuring.drawn(clips, 5).read_text("utf-8") == first
    assert len(measuring.drawn(clips, 99).read_text("utf-8").splitlines()) == 20


def test_all_levels_are_measured_unless_one_grid_is_asked_for() -> None:
    for own in ("coarse", "small"):
        grids = [measuring.GRIDS[name] for name in measuring.whole(own)]
        assert all(grid.clips.items() <= grids[0].clips.items() for grid in grids)
        for seconds in measuring.SETS:
            levels = ",".join(grid.levels[seconds] for grid in grids if seconds in grid.levels).split(",")
            assert sorted(levels) == measuring.ALL_LEVELS.split(",")


def test_a_grid_has_parts_of_its_own_lengths_alone() -> None:
    assert {part.seconds for part in measuring.parts("coarse_between")} == {15, 30}


def test_a_part_is_a_command_of_every_method_with_both_kinds_of_positions(tmp_path: Path) -> None:
    demo = measuring.models(tmp_path)[0]
    early, deep = list(measuring.parts("coarse", (30,)))
    words = early.words(demo, tmp_path / "clips.jsonl")
    assert words[words.index("--positions") + 1] == "compact,kept"
    assert words[words.index("--methods") + 1] == "all"
    assert deep.words(demo, tmp_path)[deep.words(demo, tmp_path).index("--start-layer") + 1] == "8"


def test_what_profiles_say_of_positions_is_what_the_tables_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """`profiles show` and `tune` tell counts of all choices there are, of audio that the models hear."""
    monkeypatch.setattr(measuring, "RESULTS", REAL_RESULTS)
    assert measuring.COUNTS.read_text("utf-8") == measuring.counts(measuring.tables())
    choices = {
        (method.title, schedule)
        for method in VARIANTS.values()
        if method.reduces and not method.is_of_caches
        for schedule in method.schedules
    }
    told = tomllib.loads(measuring.COUNTS.read_text("utf-8"))
    assert {(title, schedule) for title, schedules in told.items() for schedule in schedules} == choices


def test_comparisons_on_audio_that_is_heard_are_counted(measured: ComparisonResult) -> None:
    pairs = sum(bool(cell.from_compact) for row in measured.rows for cell in row.cells)
    assert pairs
    write("demo.5s.coarse.json", with_words_right(with_changes(measured, -0.2, -0.1), 0.6))
    write("demo.15s.coarse.json", with_words_right(with_changes(measured, 0.1, 0.2), 0.6))
    write("demo.30s.coarse.json", with_words_right(with_changes(measured, 0.1, 0.2), 0.4))
    (schedules,) = tomllib.loads(measuring.counts(measuring.tables())).values()
    found = Counter[tuple[str, str]]()
    for lengths in schedules.values():
        found.update(
            {(length, key): count for length, each in lengths.items() for key, count in each.items()}
        )
    assert found == {
        **{("5 s", "kept"): 2 * pairs, ("5 s", "compact"): 0, ("5 s", "compared"): 2 * pairs},
        **{("15 s", "kept"): 0, ("15 s", "compact"): 2 * pairs, ("15 s", "compared"): 2 * pairs},
    }
