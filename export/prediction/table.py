"""A plan as tables for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from ...evaluation.results.plan import (
    BreakEven,
    ComparedTime,
    DeviceFigures,
    EfficiencyFigure,
    PlanCase,
    PlanResult,
)
from ...runtime.tables.tables import Section, columns
from ...runtime.tables.units import ABSENT, milliseconds, seconds, size

SHOWN_POINTS = 4  # of a break-even map in a terminal; the result file has all of them
PREDICTED = ("per beam", "error", "shared", "KV GB", "shared GB")


def plan_sections(plan: PlanResult) -> Iterator[Section | str]:
    """Devices, times, where profiles pay, what it all rests on, and how well it meets what was measured."""
    yield _devices(plan.devices)
    for device in plan.devices:
        yield from _cases(device, [case for case in plan.cases if case.device == device.name], plan)
    fits = {case.device for case in plan.cases if case.largest_batch}
    for device, found in groupby((it for it in plan.break_even if it.device in fits), lambda it: it.device):
        yield _break_even(device, list(found))
    yield _efficiencies("What the times rest on", plan.efficiencies)
    if plan.calibration:
        yield from _calibration(plan)
    if plan.published:
        yield from _published(plan)
    yield ""
    yield from plan.notes


def _devices(devices: tuple[DeviceFigures, ...]) -> Section:
    table = columns("device", "numbers", "memory", "TB/s", "TFLOP/s", "weights", "source", left=1)
    table.columns[-1].justify, table.columns[-1].no_wrap = "left", False
    for it in devices:
        speed = f"{it.bytes_a_second / 1e12:.3g}", f"{it.flops_a_second / 1e12:.3g}"
        table.add_row(
            f"{it.name}: {it.title}",
            it.precision,
            size(it.memory_bytes),
            *speed,
            size(it.weight_bytes),
            it.source,
        )
    return Section("Ceilings", table)


def _cases(device: DeviceFigures, cases: list[PlanCase], plan: PlanResult) -> Iterator[Section | str]:
    """A table for each length of audio."""
    for audio, found in groupby(cases, lambda case: case.audio_seconds):
        group = list(found)
        title = f"{device.name}, {seconds(audio)} s of audio, {plan.protocol.new_tokens} tokens"
        if reasons := dict.fromkeys(case.skipped for case in group if case.skipped is not None):
            yield f"\n{title}, skipped: {'; '.join(reasons)}"
        if shown := [case for case in group if case.skipped is None]:
            yield _times(f"{title}: predicted", shown)


def _times(title: str, cases: list[PlanCase]) -> Section:
    table = columns("profile", "beams", "prefill", "step", "decode", "total", "KV", "batch", left=1)
    for case in cases:
        memory = size(case.kv_bytes), str(case.largest_batch)
        table.add_row(case.profile, str(case.beams), *map(milliseconds, case.shown_ms), *memory)
    note = "Times in ms; batch: requests whose caches fit beside the weights."
    if any(case.largest_batch == 0 for case in cases):
        note += f" {ABSENT} and 0: the model, or its request, does not fit into the memory."
    return Section(title, table, note)


def _break_even(device: str, found: list[BreakEven]) -> Section:
    grid = found[0].audio_seconds
    chosen = sorted({round(i * (len(grid) - 1) / (SHOWN_POINTS - 1)) for i in range(SHOWN_POINTS)})
    table = columns(
        "profile", "beams", *(f"{seconds(float(f'{grid[i]:.3g}'))} s" for i in chosen), "pays", left=1
    )
    table.columns[-1].justify, table.columns[-1].no_wrap = "left", False
    for each in found:
        ratios = (f"{each.speedups[i]:.2f}x" for i in chosen)
        table.add_row(each.profile, str(each.beams), *ratios, each.pays)
    legend = "By length of audio: time of prefill and decode of full / of the profile; above 1 it pays."
    return Section(f"{device}: break-even", table, legend)


def _efficiencies(title: str, figures: tuple[EfficiencyFigure, ...]) -> Section:
    table = columns("device", "value", "unit", "source", left=1)
    for column in table.columns[2:]:
        column.justify, column.no_wrap = "left", False
    for devices, unit, value, source in _merged(figures):
        table.add_row(devices, value, unit, source)
    legend = "time = FLOPs / (rate x share) + bytes / (rate x share) + all that is fixed"
    return Section(title, table, legend)


def _merged(figures: tuple[EfficiencyFigure, ...]) -> Iterator[tuple[str, str, str, str]]:
    """Numbers that several devices have in common stand once."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for it in figures:
        found.setdefault((it.unit, f"{it.value:.3g}", it.source), []).append(it.device)
    yield from ((", ".join(devices), *numbers) for numbers, devices in found.items())


def _calibration(plan: PlanResult) -> Iterator[Section | str]:
    table = columns("case", "", "measured", "before", "error", "fitted", "error", left=2)
    for it in plan.calibration:
        before = milliseconds(it.before_ms), _signed(it.error_before)
        table.add_row(
            it.case,
            it.what,
            milliseconds(it.measured_ms),
            *before,
            milliseconds(it.predicted_ms),
            _signed(it.error),
        )
    yield Section(f"Against {plan.protocol.calibrated_by}, in ms", table, _errors(plan.calibration))


def _errors(compared: tuple[ComparedTime, ...]) -> str:
    """The mean and the largest error, before and after."""
    kinds = {
        "before the fit": [abs(it.error_before) for it in compared],
        "after it": [abs(it.error) for it in compared],
    }
    return "; ".join(
        f"{kind}: mean error {100 * sum(found) / len(found):.0f} %, largest {100 * max(found):.0f} %"
        for kind, found in kinds.items()
    )


def _published(plan: PlanResult) -> Iterator[Section | str]:
    prefill = columns("profile", "beams", "audio", "published", "per beam", "error", "shared", left=1)
    step = columns("profile", "beams", "audio", "published", *PREDICTED, left=1, gap=1)
    for it in plan.published:
        place = it.profile, str(it.beams), f"{seconds(it.audio_seconds)} s"
        prefill.add_row(*place, *_beside(it.prefill_ms, it.per_beam_prefill_ms, it.shared_prefill_ms))
        times = _beside(it.step_ms, it.per_beam_step_ms, it.shared_step_ms)
        memory = (f"{held / 1e9:.1f}" for held in (it.per_beam_kv_bytes, it.shared_kv_bytes))
        step.add_row(*place, *times, *memory)
    yield Section("Published Table 12 (an A100, a decoder of 7B): prefill, ms", prefill)
    legend = (
        "Per beam: predicted with a prompt for each beam and a cache that every step copies. Shared: by our "
        "graphs, whose beams share one, at the same efficiencies. GB: of the KV cache."
    )
    yield Section("A step, ms", step, legend)
    yield _efficiencies("What these rest on", plan.published_efficiencies)


def _beside(published: float, per_beam: float, shared: float) -> tuple[str, ...]:
    """A published time, the prediction that is to meet it, and that of our graphs."""
    error = _signed(per_beam / published - 1)
    return milliseconds(published), milliseconds(per_beam), error, milliseconds(shared)


def _signed(share: float) -> str:
    return f"{100 * share:+.0f} %"
