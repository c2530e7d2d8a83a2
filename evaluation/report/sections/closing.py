"""The end of a page: which clips failed, what intervals are, and where figures come from."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ....profiles.codec import to_json
from ....runtime.benchmark.load.records import LoadBenchmark
from ....runtime.benchmark.records import Benchmark
from ...results.comparison import ComparisonResult
from ...results.files import Result, ResultFile
from ...results.plan import PlanResult
from ...results.row_map import RowMapResult
from ...results.selection import SelectionResult
from ...results.settings import Failure, Intervals
from ..page_model import Facts, Section, Table
from ..shown import facts

Files = Sequence[ResultFile[Result]]
MACHINE = ("time_utc", "cpu", "cores", "threads", "load_average", "platform", "python")
SETTINGS = ("task", "max_loss", "objective", "seed", "clips", "artifact", "checkpoint", "intervals")
INNER_SETTINGS = ("protocol", "settings")  # whose fields are named without them
ENTROPIES = "entropies"  # what a failure of no profile is of


def failures_section(files: Files) -> Section | None:
    """Clips without an answer, or without entropies; once for each reason, whatever failed for it."""
    missing: dict[tuple[str, str, str], list[str]] = {}
    for file in files:
        for failure in _failures(file.found):
            found = missing.setdefault((file.name, failure.id, failure.reason), [])
            found += failure.profiles or (ENTROPIES,)
    if not missing:
        return None
    rows = tuple((file, clip, ", ".join(of), reason) for (file, clip, reason), of in missing.items())
    table = Table(("file", "clip", "not measured", "reason"), rows, "Reasons as they were recorded", texts=4)
    intro = (
        f"No figure of their file counts them; a clip that lacks {ENTROPIES} alone is left out of the "
        f"{ENTROPIES} alone."
    )
    return Section("Clips that failed", intro, tables=(table,))


def _failures(found: Result) -> tuple[Failure, ...]:
    match found:
        case Benchmark() | LoadBenchmark() | PlanResult() | RowMapResult():
            return ()
        case SelectionResult():
            return (*found.failures, *(found.accuracy.failures if found.accuracy else ()))
    return found.failures


def reading_section(files: Files) -> Section:
    """What bars, lines and dashes mean."""
    notes = dict.fromkeys(_meanings(files))
    return Section("How to read this page", notes=tuple(notes))


def _meanings(files: Files) -> Iterator[str]:
    names: dict[tuple[str, str], list[str]] = {}
    for file in files:
        for what in _intervals(file.found):
            names.setdefault(what, []).append(file.name)
    yield from (f"{what} of {', '.join(found)}: {how}." for (what, how), found in names.items())
    if any(
        not isinstance(file.found, Benchmark | LoadBenchmark | PlanResult | RowMapResult) for file in files
    ):
        yield (
            "An interval tells how far a figure may move with other clips of the same kind. It does not tell "
            "what other speakers, languages or machines would do. Where intervals of two profiles overlap, "
            "look at their paired difference: it is the sharper test."
        )
    if any(isinstance(file.found, ComparisonResult) and file.found.protocol.seeds > 1 for file in files):
        yield "Random methods run under several seeds: their figures are the mean over them."
    if any(isinstance(file.found, Benchmark) for file in files):
        yield "The two numbers in brackets behind a latency are the 10th and the 90th percentile of its runs."
    yield "A dash stands for what was not measured; nothing is filled in."


def _intervals(found: Result) -> Iterator[tuple[str, str]]:
    """What has intervals, and how they were made."""
    match found:
        case Benchmark():
            yield "Latencies", found.protocol.spreads
            return
        case LoadBenchmark():
            yield "Times under load", found.protocol.measured.rstrip(".")
            return
        case PlanResult() | RowMapResult():
            return
        case SelectionResult():
            yield "Ranks over resamples", _made(found.intervals)
            if found.accuracy is not None:
                yield "Intervals", _made(found.accuracy.intervals)
            return
    yield "Intervals", _made(found.intervals)


def _made(intervals: Intervals) -> str:
    return f"{intervals.method}; {intervals.resamples} resamples, seed {intervals.seed}"


def sources_section(files: Files) -> Section:
    """The environment and the settings of each file, and the command that made it."""
    return Section(
        "Where the figures come from",
        "Every file with its machine, its settings, and the command line that made it, as it was given: "
        "relative paths are of the folder that it was given in.",
        facts=tuple(map(_source, files)),
    )


def _source(file: ResultFile[Result]) -> Facts:
    environment = to_json(file.found.environment)
    machine = {name: environment[name] for name in MACHINE}
    rest = {name: value for name, value in environment.items() if name not in MACHINE}
    groups = (("Libraries", _entries(_libraries(rest))), ("Settings", _entries(_settings(file.found))))
    made = () if file.command else (("made", "from Python, so there is no command line"),)
    return Facts(
        file.name,
        (("kind", file.kind), *made, *facts(machine)),
        tuple(map(shlex.quote, shlex.split(file.command or ""))),
        tuple((name, entries) for name, entries in groups if entries),
    )


def _settings(found: Result) -> dict[str, Any]:
    content = {name: to_json(getattr(found, name)) for name in SETTINGS if hasattr(found, name)}
    for name in INNER_SETTINGS:
        if hasattr(found, name):
            content |= to_json(getattr(found, name))
    if isinstance(found, ComparisonResult):
        content["artifact"] = {each.name: each.artifact for each in found.formats}
    return content


def _libraries(rest: Mapping[str, Any]) -> dict[str, Any]:
    """Versions by library, then whatever else the environment holds."""
    others = {name: value for name, value in rest.items() if name != "libraries"}
    return {**rest["libraries"], **others}


def _entries(content: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(facts(content))
