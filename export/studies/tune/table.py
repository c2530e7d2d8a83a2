"""A tuning as tables and sentences for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from ....evaluation.evaluation import Evaluation
from ....evaluation.figures.loss import Loss
from ....evaluation.metrics.metric import SHARE, Metric
from ....evaluation.table import few_text, number, unit
from ....profiles.methods import FULL
from ....profiles.profile import profile_to_toml
from ....profiles.schedule import has_start_layer
from ....runtime.choice.acceptance import ENOUGH_RECORDINGS, LEAST_RECORDINGS, UNDEFINED
from ....runtime.tables.tables import Section, columns
from ....runtime.tables.units import ABSENT, in_percent, milliseconds, percent, seconds, size
from ..positions import positions_lines
from .choice import KV_TOLERANCE
from .ladders import Candidate, Ladder, told_apart
from .rounds import Tried
from .timing import Timing
from .tuning import Tuning

GOALS = {
    "flops": "highest FLOPs level, then least loss",
    "kv": f"fewest KV bytes to {percent(KV_TOLERANCE)} of full's, then least loss",
    "latency": "fastest prefill and decode",
}
OUT_LEGEND = "; out: the next level, out of reach and not tried"
KV_LEGEND = "KV: of the prompt, mean over the clips"


def tuning_sections(tuning: Tuning) -> Iterator[Section | str]:
    """What was tried, what kept the budget, what was chosen, and what the held-out half says about it."""
    yield _rounds(tuning)
    yield _within(tuning)
    yield ""
    yield from _failures(tuning)
    if tuning.choice.tried is None:
        yield f"Nothing is chosen: {tuning.choice.reason}."
        return
    yield from _choice(tuning, tuning.choice.tried)
    if tuning.held_out is not None:
        if tuning.loss is not None:
            yield _held_out(tuning, tuning.held_out, tuning.loss)
        yield from _verdict(tuning, tuning.held_out, tuning.loss)


def _rounds(tuning: Tuning) -> Section:
    """A row a ladder: the loss of each level that was tried, in the order of the rounds."""
    numbers = range(1, len(tuning.rounds) + 1)
    table = columns("candidates", *(f"round {i}" for i in numbers), "kept to", gap=3)
    rows = list(zip(tuning.ladders, tuning.highest, strict=True))
    out = [ladder.beyond if highest == ladder.last else None for ladder, highest in rows]
    for (ladder, highest), level in zip(rows, out, strict=True):
        cells = [_cell(tuning, ladder, i) for i in numbers]
        table.add_row(_name(tuning, ladder), *cells, _kept_to(highest, level))
    search, held_out = (len(half.clips) for half in (tuning.halves.search, tuning.halves.held_out))
    return Section(
        f"{tuning.metric.title} lost on {search} clips ({held_out} are held out, drawn by seed "
        f"{tuning.options.evaluation.seed}); positions {', '.join(tuning.options.positions)}",
        table,
        f"loss @ FLOPs level in %; kept to: the highest level that loses at most {_budget(tuning)}, if "
        f"losses grow with the level{OUT_LEGEND if any(out) else ''}",
    )


def _name(tuning: Tuning, ladder: Ladder) -> str:
    method, positions = told_apart(tuning.options, ladder)
    start = f" from {ladder.start_layer}" if has_start_layer(ladder.schedule) else ""
    name = f"{method} {ladder.schedule}{start}".lstrip()
    return f"{name}, {positions}" if positions else name


def _cell(tuning: Tuning, ladder: Ladder, number_of_round: int) -> str:
    for candidate in ladder.candidates:
        tried = tuning.tried.get(candidate.name)
        if tried is not None and tried.round == number_of_round:
            return f"{_points(tuning.metric, tried.loss.value)} @ {in_percent(candidate.level)}"
    return ABSENT


def _kept_to(highest: Candidate | None, out: Fraction | None) -> str:
    level = ABSENT if highest is None else f"{in_percent(highest.level)} %"
    return level if out is None else f"{level} ({in_percent(out)} out)"


def _within(tuning: Tuning) -> Section:
    """What each kept candidate saves."""
    timing, names = tuning.timing, [candidate.name for candidate in tuning.highest if candidate is not None]
    table = columns("candidate", "loss", "FLOPs saved", "KV", *(["ms", "p10-p90"] if timing else []), gap=3)
    full = ("", percent(0), size(tuning.full_kv_bytes))
    table.add_row(FULL, *full, *_times(timing, FULL))
    for name in names:
        tried, chosen = tuning.tried[name], tuning.choice.tried
        cells = _points(tuning.metric, tried.loss.value), percent(tried.scores.flops_reduction)
        style = "bold" if tried is chosen else None
        table.add_row(name, *cells, size(tried.kv_bytes), *_times(timing, name), style=style)
    goal = GOALS[tuning.options.objective]
    times = f"; ms: medians of prefill and decode, {_bench(timing)}" if timing else ""
    return Section(f"within the budget; wanted: {goal}", table, KV_LEGEND + times)


def _times(timing: Timing | None, name: str) -> tuple[str, ...]:
    if timing is None:
        return ()
    if name not in timing.spreads:
        return ABSENT, ABSENT  # within the budget, and no finalist
    found = timing.spreads[name]
    if found.p10 is None or found.p90 is None:
        return milliseconds(found.median), ABSENT
    return milliseconds(found.median), f"{milliseconds(found.p10)}-{milliseconds(found.p90)}"


def _bench(timing: Timing) -> str:
    protocol, case = timing.benchmark.protocol, timing.benchmark.results[0]
    length = f"{seconds(case.audio_seconds)} s of audio"
    return f"{length}, {protocol.new_tokens} tokens, {case.runs} runs in turns"


def _choice(tuning: Tuning, tried: Tried) -> Iterator[str]:
    yield f"Chosen: {tried.candidate.name}."
    yield from positions_lines(tried.candidate.profile)
    loss, clips = _points(tuning.metric, tried.loss.value), len(tuning.rounds[0].measured)
    yield (
        f"Candidates tried on {clips} clips: {len(tuning.tried)}. A loss of {loss} there flatters the "
        "chosen one, the more so the more are tried: the held-out half is what counts."
    )


def _held_out(tuning: Tuning, found: Evaluation, loss: Loss) -> str:
    metric, (full, chosen) = tuning.metric, (scores.figures[0].value for scores in found.profiles)
    between = loss.interval
    shown_interval = (
        _no_interval(found.recordings)
        if between is None
        else f"95 %: {_points(metric, between.low)} to {_points(metric, between.high)}"
    )
    sign = unit(metric)
    return (
        f"Held out, {len(found.measured)} clips: {metric.title} {number(metric, chosen)}{sign}, full "
        f"{number(metric, full)}{sign}; loss {_points(metric, loss.value)} ({shown_interval})."
    )


def _verdict(tuning: Tuning, found: Evaluation, loss: Loss | None) -> Iterator[str]:
    between = None if loss is None else loss.interval
    if not tuning.is_confirmed:
        beyond = f"That is MORE than the budget of {_budget(tuning)}"
        outcome = f"Not confirmed: {tuning.doubt}" if tuning.doubt else beyond
        yield (
            f"{outcome}. The profile is not written, and no other is chosen, for a held-out half judges "
            "once. This is it:"
        )
        if tuning.profile is not None:
            yield profile_to_toml(tuning.profile).rstrip()
    elif between is not None and between.high > tuning.options.max_loss:
        yield f"Within the budget of {_budget(tuning)}; the interval is not: more recordings would tell more."
    else:
        yield f"Within the budget of {_budget(tuning)}."
    if LEAST_RECORDINGS <= found.recordings < ENOUGH_RECORDINGS:
        yield few_text(found.recordings)


def _no_interval(recordings: int) -> str:
    return f"no interval, {'of one recording' if recordings < LEAST_RECORDINGS else f'for {UNDEFINED}'}"


def _failures(tuning: Tuning) -> Iterator[str]:
    for failure in tuning.failures:
        yield f"failed, no figure counts it: {failure.id}: {failure.reason}"


def _points(metric: Metric, loss: float) -> str:
    return f"{loss:+.{metric.decimals}f}"


def _budget(tuning: Tuning) -> str:
    points = " points" if tuning.metric.unit == SHARE else ""
    return f"{tuning.options.max_loss:g}{points}"
