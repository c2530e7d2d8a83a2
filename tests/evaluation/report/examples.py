"""Results of `compare`, `select-layer` and `tune` with made-up figures, in the records of the commands."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from fastadasp.evaluation.metrics.metric import Metric, Unit
from fastadasp.evaluation.recorded import METHOD
from fastadasp.evaluation.results.comparison import (
    CellRecord,
    ComparisonProtocol,
    ComparisonResult,
    FormatRecord,
    RowRecord,
)
from fastadasp.evaluation.results.figures import Difference, Estimate, Measured, ProfileFigures
from fastadasp.evaluation.results.files import Result, command_of, kind_of, result_text
from fastadasp.evaluation.results.plan import (
    BreakEven,
    ComparedTime,
    DeviceFigures,
    EfficiencyFigure,
    PlanCase,
    PlanProtocol,
    PlanResult,
    PublishedTime,
)
from fastadasp.evaluation.results.row_map import RowMapResult
from fastadasp.evaluation.results.selection import (
    AccuracyResult,
    LayerFigures,
    RankCorrelation,
    RankSpread,
    SelectionProtocol,
    SelectionResult,
    TransferEntropy,
)
from fastadasp.evaluation.results.settings import AnswerSettings, ClipList, Failure, Intervals
from fastadasp.evaluation.results.tuning import (
    CandidateRecord,
    HalvesRecord,
    HeldOutResult,
    LadderRecord,
    TuningProtocol,
    TuningResult,
)
from fastadasp.export.studies.compare.grid import Row
from fastadasp.runtime.alignment.row_map import LayerRows
from fastadasp.runtime.decoding.options import ResolvedSearch
from fastadasp.runtime.environment import Environment

LEVELS = (10, 20, 30, 40, 50)
LAYERS, ROWS = 32, 750
WER = {
    ("random_merge", "constant"): (2.43, 3.39, 8.21, 27.53, 169.96),
    ("random_evict", "constant"): (5.70, 21.42, 61.04, 184.59, 342.88),
    ("a_tome", "constant"): (2.20, 3.26, 13.91, 71.56, 273.49),
    ("fastv", "single"): (12.54, 54.40, 110.42, 179.58, 258.78),
    ("weighted_merge", "decay"): (2.19, 2.23, 2.51, 4.37, 15.24),
    ("weighted_merge", "constant"): (2.22, 2.21, 2.30, 3.57, 16.01),
}
BLEU = {
    ("random_merge", "constant"): (40.63, 39.35, 37.01, 32.39, 24.3),
    ("random_evict", "constant"): (38.39, 28.22, 14.98, 6.29, None),
    ("a_tome", "constant"): (41.24, 39.87, 36.52, 25.35, 8.64),
    ("fastv", "single"): (41.12, 40.31, 38.45, 34.74, 27.14),
    ("weighted_merge", "decay"): (41.41, 41.05, 40.51, 39.02, 35.79),
    ("weighted_merge", "constant"): (41.47, 41.30, 40.83, 39.81, 37.04),
}
ENVIRONMENT = Environment(
    time_utc="2026-01-02T03:04:05+00:00",
    cpu="A CPU",
    cores=2,
    cores_usable=2,
    threads=2,
    load_average=(0.5, 0.4, 0.3),
    platform="Linux",
    python="3.11.7",
    libraries={"numpy": "2.4.6"},
    workers=1,
)
CHECKPOINT = {"folder": "CHECKPOINT", "family": "qwen", "dims": {"num_layers": LAYERS}}
CLIPS = ClipList("clips.jsonl", "d1", 2620, 2618, 2618)
SETTINGS = AnswerSettings(
    ResolvedSearch(), "onnxruntime", {"providers": ("CPUExecutionProvider",), "lean": False}, "basic"
)
INTERVALS = Intervals(METHOD, 1000, 0)
ACCURACY = Metric("accuracy", "Accuracy", "share", made_by="x")


def write(path: Path, found: Result) -> Path:
    """A result file, as a command of its kind writes it."""
    command = shlex.join(("fastadasp-export", command_of(kind_of(found)), "THE MODEL", "--json", str(path)))
    path.write_text(result_text(found, command), "utf-8")
    return path


def asr_comparison() -> ComparisonResult:
    """WER of six methods, as a share of 1."""
    return _comparison("asr", Metric("wer", "WER", lower_is_better=True), 2.21, WER)


def translation_comparison() -> ComparisonResult:
    """BLEU of the same methods, one cell of which was not measured."""
    unit: Unit = "points"
    return _comparison("translate", Metric("bleu", "BLEU", unit), 41.46, BLEU)


def selection() -> SelectionResult:
    """Layers with accuracy at two levels, where the lowest entropy is the best layer at one of them alone."""
    entropies = {2: 2.20, 9: 2.17, 12: 2.29, 15: 2.11, 3: 2.06}
    low, high = Fraction(3, 10), Fraction(1, 2)
    accuracy = {low: (0.549, 0.538, 0.541, 0.546, 0.544), high: (0.51, 0.515, 0.497, 0.519, 0.5214)}
    layers = [
        LayerFigures(
            layer,
            reachable=0.9 - layer / 40,
            ratio=Fraction(13, 25),
            entropy=TransferEntropy(te, 1.0, 1.0 + te, te),
            rank=sorted(entropies.values()).index(te) + 1,
            spread=RankSpread(1, 5, 0.2),
            accuracy={level: _accuracy(values[i]) for level, values in accuracy.items()},
        )
        for i, (layer, te) in enumerate(entropies.items())
    ]
    layers.append(LayerFigures(16, 0.28, infeasible="at most 28.00 %"))
    return SelectionResult(
        checkpoint=CHECKPOINT,
        clips=ClipList("clips.jsonl", "d2", 100, 100, 100),
        protocol=SelectionProtocol(Fraction(3, 10), "compact", 30.0, 12, 900.0, 4711),
        intervals=INTERVALS,
        selected=3,
        profile='method = "weighted_merge"\nstart_layer = 3\nratio = 0.52\n',
        warnings=(),
        layers=tuple(sorted(layers, key=lambda layer: layer.layer)),
        accuracy=AccuracyResult(
            task="classify",
            clips=ClipList("clips.jsonl", "d2", 100, 100, 100),
            settings=SETTINGS,
            intervals=INTERVALS,
            metrics=(ACCURACY,),
            levels=(low, high),
            full=_accuracy(0.548),
            best={low: 2, high: 3},
            rank_correlation={low: RankCorrelation(-0.1, 5), high: RankCorrelation(0.9, 5)},
            failures=(),
            environment=ENVIRONMENT,
        ),
        failures=(Failure("short.flac", 9, (), "its 1 audio tokens after the merge are all alike"),),
        environment=ENVIRONMENT,
    )


def tuning() -> TuningResult:
    """Candidates for a budget of 1 point of accuracy, one of them chosen and confirmed."""
    tried = {"constant-0-20": (0.2, 0.546), "constant-0-40": (0.4, 0.532), "decay-2-30": (0.31, 0.541)}
    return TuningResult(
        task="classify",
        checkpoint=CHECKPOINT,
        max_loss=0.01,
        objective="flops",
        seed=0,
        clips=ClipList("clips.jsonl", "d3", 40, 39, 39),
        halves=HalvesRecord(("a",), ("b",)),
        protocol=TuningProtocol(("compact",), (Fraction(1, 5), Fraction(2, 5)), 30.0, 12, "x"),
        settings=SETTINGS,
        intervals=INTERVALS,
        metrics=(ACCURACY,),
        full=_scores("full", 0.0, 0.548),
        full_kv_bytes=9e6,
        ladders=(
            LadderRecord("weighted_merge", "decay", 2, "compact", (Fraction(3, 10),), None, "decay-2-30"),
        ),
        candidates=tuple(_candidate(name, *figures) for name, figures in tried.items()),
        timing=None,
        choice="decay-2-30",
        profile='method = "weighted_merge"\nschedule = "decay"\nstart_layer = 2\nratio = "1/20"\n',
        reason=None,
        held_out=HeldOutResult(
            ClipList("clips.jsonl", "d4", 40, 40, 40),
            30.0,
            (_scores("full", 0.0, 0.55), _scores("decay-2-30", 0.31, 0.543)),
            Estimate(0.007, -0.01, 0.02),
            within_budget=True,
        ),
        failures=(Failure("silent.wav", 3, ("full",), "the audio is empty"),),
        environment=ENVIRONMENT,
    )


def plan() -> PlanResult:
    """One device that was fitted to a file, with a case that it has and one that is too long."""
    return PlanResult(
        checkpoint=CHECKPOINT,
        protocol=PlanProtocol(("full", "half"), (1, 5), (30.0, 600.0), 20, 64, None, None, "bench.json"),
        devices=(DeviceFigures("a100", "A GPU", "bf16", 8e10, 2e12, 3e14, 1.5e10, "a data sheet"),),
        efficiencies=(EfficiencyFigure("a100", "compute", 0.6, "of the FLOPs a second", "fitted to x"),),
        cases=(
            PlanCase("a100", "half", 5, 30.0, None, 770, 1e13, 39.5, 10.8, 680.4, 2.4e8, 258),
            PlanCase("a100", "half", 5, 600.0, skipped="7520 rows, 2048 positions"),
        ),
        break_even=(
            BreakEven("a100", "half", 1, (1.0, 20.0, 150.0), (0.98, 1.01, 1.2), "from 15 s on"),
            BreakEven("a100", "half", 5, (1.0, 20.0, 150.0), (0.99, 1.0, 1.1), "from 20 s on"),
        ),
        calibration=(ComparedTime("1 beam, 30 s, full", "prefill", 50.0, 39.5, 49.0),),
        published=(
            PublishedTime(
                *(5, 240.0, "full", 6720.0, 23550.0, 322.6),
                *(6800.0, 293.8, 8.2e9, 1400.0, 85.6, 1.8e9),
            ),
        ),
        published_efficiencies=(),
        notes=("The checkpoint folder has no weights.",),
        environment=ENVIRONMENT,
    )


def row_map() -> RowMapResult:
    """Three layers: two rows merge after the first, and each head of the last drops another row."""
    layers = (
        LayerRows(0, None, (0.0, 0.04, 0.08, 0.12), (0.04, 0.08, 0.12, 0.16)),
        LayerRows(1, None, (0.0, 0.08, 0.12), (0.08, 0.12, 0.16)),
        LayerRows(2, 0, (0.0, 0.12), (0.08, 0.16)),
        LayerRows(2, 1, (0.08, 0.12), (0.12, 0.16)),
    )
    artifact = {"folder": "ART", "digest": "d"}
    levels, boundaries = (0.0, 0.5, 1.0), (0.0, 0.04, 0.08, 0.12, 0.16)
    return RowMapResult(artifact, "a.wav", "half", "one two", 0.17, levels, boundaries, layers, ENVIRONMENT)


def _candidate(name: str, flops: float, value: float) -> CandidateRecord:
    schedule, start, percent = name.split("-")
    return CandidateRecord(
        name=name,
        method="weighted_merge",
        schedule=schedule,
        start_layer=int(start),
        positions="compact",
        level=Fraction(int(percent), 100),
        toml="",
        round=1,
        scores=_scores(name, flops, value),
        kv_bytes=6e6,
        loss=Estimate(0.548 - value),
        feasible=value >= 0.538,
    )


def _scores(profile: str, flops: float, value: float) -> ProfileFigures:
    return ProfileFigures(profile, _accuracy(value), 1 - flops, flops, 0)


def _accuracy(value: float) -> dict[str, Measured]:
    return {"accuracy": Measured(value, value - 0.02, value + 0.02)}


def quantized_comparison(first: str | None = None, second: str = "int8") -> ComparisonResult:
    """BLEU of two methods with weights of two formats, of which the second costs a little."""
    found = translation_comparison()
    kept = [row for row in found.rows if row.method in ("random_evict", "weighted_merge")]
    kept = [row for row in kept if row.schedule == "constant"]
    change = {} if first else {"bleu": Difference(-0.12, -0.21, -0.02, 0.03)}
    full = record(Row("full", "", ()), [found.full])
    rows = (
        *(_in_format(row, first, {}) for row in kept),
        *(_in_format(row, second, change) for row in (full, *kept)),
    )
    formats = (replace(found.formats[0], quantized=first), FormatRecord(second, "d6", 8_300_000_000))
    return replace(found, formats=formats, memory="peaks", rows=rows)


def _in_format(row: RowRecord, quantized: str | None, change: dict[str, Difference]) -> RowRecord:
    cells = (
        replace(cell, peak_bytes=9_100_000_000, from_float32=change if cell.figures else {})
        for cell in row.cells
    )
    return record(Row(row.method, row.schedule, (), quantized, row.positions), cells)


def _comparison(
    task: str, metric: Metric, full: float, figures: Mapping[tuple[str, str], tuple[float | None, ...]]
) -> ComparisonResult:
    failure = Failure("broken.flac", 7, ("full", "fastv-30"), "audio cannot be decoded")
    return ComparisonResult(
        task=task,
        checkpoint=CHECKPOINT,
        clips=CLIPS,
        protocol=ComparisonProtocol(2, ("kept",), 3, 30.0, ROWS, 12),
        settings=SETTINGS,
        intervals=INTERVALS,
        metrics=(metric,),
        levels=tuple(Fraction(level, 100) for level in LEVELS),
        formats=(FormatRecord(None, "d5", 33_000_000_000),),
        memory=None,
        full=_full(full, metric),
        rows=tuple(_row(*named, values, metric) for named, values in figures.items()),
        failures=(failure,),
        environment=ENVIRONMENT,
    )


def record(row: Row, cells: Iterable[CellRecord]) -> RowRecord:
    """A row that `compare` made, with cells of made-up figures."""
    return RowRecord(row.label, row.name, row.schedule, 2, row.positions, row.quantized, tuple(cells))


def _row(method: str, schedule: str, values: tuple[float | None, ...], metric: Metric) -> RowRecord:
    row = Row(method, schedule, (), positions="kept")
    return record(
        row, (_cell(row, level, value, metric) for level, value in zip(LEVELS, values, strict=True))
    )


def _full(value: float, metric: Metric) -> CellRecord:
    return CellRecord(
        level=Fraction(0),
        profiles=("full",),
        seeds=(),
        figures=_figures(value, metric, None),
        flops_reduction=0.0,
        kept_ratio=1.0,
        layer_rows=(float(ROWS),) * LAYERS,
        prefill_ms=790.0,
        decode_ms=1150.0,
        step_ms=23.0,
        peak_bytes=None,
        from_float32={},
        from_compact={},
        cut_off=0.0,
        unmet=None,
    )


def _cell(row: Row, level: int, value: float | None, metric: Metric) -> CellRecord:
    achieved = level - 1.9 if row.name == "a_tome" else level - 0.2
    return CellRecord(
        level=Fraction(level, 100),
        profiles=(f"{row.name}-{row.schedule}-{level}",),
        seeds=(),
        figures=_figures(value, metric, Difference(0.1, -0.1, 0.2, 0.5)),
        flops_reduction=achieved / 100,
        kept_ratio=1 - level / 120,
        layer_rows=_layer_rows(row.schedule, level),
        prefill_ms=790.0 - 6.1 * level,
        decode_ms=1150.0 - (5 if row.name == "weighted_merge" else 4) * level,
        step_ms=23.0 - level / 20,
        peak_bytes=None,
        from_float32={},
        from_compact={},
        cut_off=0.0,
        unmet="merges pairs only" if row.name == "a_tome" and level > 40 else None,
    )


def _layer_rows(schedule: str, level: int) -> tuple[float, ...]:
    if schedule == "decay":
        shares = (1 - level / 62 * min(1, (max(0, i - 1) / 10) ** 0.5) for i in range(LAYERS))
        return tuple(round(ROWS * share, 1) for share in shares)
    if schedule == "constant":
        return tuple(round(ROWS * (1 - level / 1400) ** max(0, i - 1), 1) for i in range(LAYERS))
    return tuple(float(ROWS) if i < 3 else round(ROWS * (1 - level / 92), 1) for i in range(LAYERS))


def _figures(value: float | None, metric: Metric, delta: Difference | None) -> dict[str, Measured]:
    """Of a value as people read it, in the unit of the metric."""
    if value is None:
        return {}
    width = 0.04 * value + 0.1
    found = Measured(value, value - width, value + width, delta, (value,))
    return {metric.name: found.times(1 / metric.scale)}
