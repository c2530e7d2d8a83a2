"""What a plan predicts: where profiles pay, times and memory, and every number that these rest on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from ....runtime.tables.units import factor, milliseconds, percent, seconds, size
from ...results.files import ResultFile
from ...results.plan import BreakEven, ComparedTime, PlanCase, PlanResult, PublishedTime
from ..page_model import Plot, Section, Swatch, Table
from ..plotly_parts import axis, hover, log_axis, plotly_figure, reference
from ..series_style import NEUTRAL, Style, line_drawing, styles

File = ResultFile[PlanResult]
TIMES = ("prefill", "step", "decode", "total")
PARTS = ("published", "per beam", "shared")


def plan_section(plans: Sequence[File]) -> Section | None:
    """The break-even maps of all files, then their tables."""
    if not plans:
        return None
    style = styles(_beams(each) for plan in plans for each in plan.found.break_even)
    return Section(
        "Plan",
        "Predicted from counts of FLOPs and bytes, not measured. A profile pays where the full model takes "
        "longer: where its line is above 1.",
        tuple(_legend(style)),
        tuple(plot for plan in plans for plot in _plots(plan, style)),
        tuple(table for plan in plans for table in _tables(plan)),
        notes=tuple(f"{plan.name}: {note}" for plan in plans for note in plan.found.notes),
    )


def _legend(style: dict[str, Style]) -> Iterator[Swatch]:
    for label, each in style.items():
        yield Swatch(label, label, each.drawing)
    yield Swatch("as fast as the full model", "", line_drawing(NEUTRAL, "dash"))


def _beams(each: BreakEven) -> str:
    return f"{each.beams} beam{'s' * (each.beams != 1)}"


def _plots(plan: File, style: dict[str, Style]) -> Iterator[Plot]:
    """One for each device and profile."""
    for (device, profile), found in groupby(plan.found.break_even, lambda each: (each.device, each.profile)):
        maps = list(found)
        lengths = [length for each in maps for length in each.audio_seconds]
        figure = plotly_figure(
            [_line(each, style[_beams(each)]) for each in maps],
            log_axis(min(lengths), max(lengths), "seconds of audio"),
            axis(nticks=6),
            shapes=[reference("y", 1.0)],
        )
        yield Plot(
            f"{device}, {profile}: time of full / of the profile",
            plan.name,
            f"How many times as fast as full {profile} is on {device}, by the length of the audio",
            figure,
            _map(maps),
            "; ".join(f"pays with {_beams(each)} {each.pays}" for each in maps),
        )


def _line(each: BreakEven, style: Style) -> dict[str, Any]:
    label = _beams(each)
    return {
        "type": "scatter",
        "mode": "lines",
        "legendgroup": label,
        "x": list(each.audio_seconds),
        "y": list(each.speedups),
        "line": style.line,
        "hoverinfo": "text",
        "hovertext": [
            hover(f"{label}, {seconds(length)} s", f"{factor(ratio)}x")
            for length, ratio in zip(each.audio_seconds, each.speedups, strict=True)
        ],
    }


def _map(maps: Sequence[BreakEven]) -> Table:
    rows = tuple(
        (_beams(each), f"{seconds(length)} s", f"{factor(ratio)}x")
        for each in maps
        for length, ratio in zip(each.audio_seconds, each.speedups, strict=True)
    )
    return Table(("beams", "audio", "full / profile"), rows, "Above 1 the profile pays")


def _tables(plan: File) -> Iterator[Table]:
    found, name = plan.found, plan.name
    yield Table(
        ("device", "audio", "beams", "profile", *TIMES, "KV cache", "largest batch"),
        tuple(map(_case, found.cases)),
        f"{name}: predicted, times in ms; absent where the model does not fit into the memory",
        texts=4,
    )
    yield Table(
        ("device", "title", "numbers", "source", "memory", "TB/s", "TFLOP/s", "weights"),
        tuple(
            (
                *(it.name, it.title, it.precision, it.source, size(it.memory_bytes)),
                *(factor(rate / 1e12) for rate in (it.bytes_a_second, it.flops_a_second)),
                size(it.weight_bytes),
            )
            for it in found.devices
        ),
        f"{name}: ceilings",
        texts=4,
    )
    efficiencies = (*found.efficiencies, *found.published_efficiencies)
    rows = tuple((it.device, it.name, it.unit, it.source, f"{it.value:.3g}") for it in efficiencies)
    yield Table(
        ("device", "number", "unit", "source", "value"), rows, f"{name}: what the times rest on", texts=4
    )
    yield from _compared(plan)


def _case(case: PlanCase) -> tuple[str, ...]:
    place = case.device, f"{case.audio_seconds:g} s", str(case.beams), case.profile
    if case.skipped is not None:
        return (*place, f"skipped: {case.skipped}", *[""] * (len(TIMES) + 1))
    return (*place, *map(milliseconds, case.shown_ms), size(case.kv_bytes), str(case.largest_batch))


def _compared(plan: File) -> Iterator[Table]:
    """Measured and published times beside the predicted ones."""
    found, name = plan.found, plan.name
    if found.calibration:
        columns = ("case", "time", "measured", "before the fit", "error", "after it", "error")
        rows = tuple(map(_measured, found.calibration))
        yield Table(columns, rows, f"{name}: against {found.protocol.calibrated_by}, in ms", texts=2)
    if found.published:
        times = (f"{what} {part}" for what in ("prefill", "step") for part in PARTS)
        names = ("profile", "beams", "audio", *times, "KV per beam", "KV shared")
        rows = tuple(map(_published, found.published))
        yield Table(names, rows, f"{name}: the published Table 12, in ms", texts=3)


def _measured(it: ComparedTime) -> tuple[str, ...]:
    before = milliseconds(it.before_ms), percent(it.error_before)
    return (
        it.case,
        it.what,
        milliseconds(it.measured_ms),
        *before,
        milliseconds(it.predicted_ms),
        percent(it.error),
    )


def _published(it: PublishedTime) -> tuple[str, ...]:
    return (
        *(it.profile, str(it.beams), f"{it.audio_seconds:g} s"),
        *map(milliseconds, (it.prefill_ms, it.per_beam_prefill_ms, it.shared_prefill_ms)),
        *map(milliseconds, (it.step_ms, it.per_beam_step_ms, it.shared_step_ms)),
        *map(size, (it.per_beam_kv_bytes, it.shared_kv_bytes)),
    )
