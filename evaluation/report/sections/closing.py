"""The end of a page: which clips failed, what intervals are, and where figures come from."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..files.records import ClipFailure, Source
from ..files.result_files import Results
from ..page_model import Facts, Section, Table
from ..shown import facts

PROGRAM = "fastadasp-export"
MACHINE = ("time_utc", "cpu", "cores", "threads", "load_average", "platform", "python")


def failures_section(results: Results) -> Section | None:
    """Clips without an answer, which no figure counts."""
    rows = tuple(
        (source.name, failure.clip, ", ".join(failure.profiles), failure.reason)
        for source, failures in _failures(results)
        for failure in failures
    )
    if not rows:
        return None
    table = Table(("file", "clip", "profile", "reason"), rows, "Reasons as they were recorded", texts=4)
    return Section("Clips that failed", "No figure of their file counts them.", tables=(table,))


def _failures(results: Results) -> Iterator[tuple[Source, Sequence[ClipFailure]]]:
    yield from ((one.source, one.failures) for one in results.comparisons)
    yield from ((one.source, one.accuracy.failures) for one in results.selections)
    yield from ((one.source, one.failures) for one in results.tunings)
    yield from ((one.source, one.failures) for one in results.evaluations)


def reading_section(results: Results) -> Section:
    """What bars, lines and dashes mean."""
    notes = dict.fromkeys(_meanings(results))
    return Section("How to read this page", notes=tuple(notes))


def _meanings(results: Results) -> Iterator[str]:
    for source in results.sources:
        text = source.settings.get("method" if source.kind == "compare" else "intervals")
        if isinstance(text, str):
            yield f"Intervals of {source.name}: {text}."
    if any(source.kind != "bench" for source in results.sources):
        yield (
            "An interval tells how far a figure may move with other clips of the same kind. It does not tell "
            "what other speakers, languages or machines would do. Where intervals of two profiles overlap, "
            "look at their paired difference: it is the sharper test."
        )
    if results.comparisons:
        yield "Random methods run under several seeds: their figures are the mean over them."
    if results.benchmarks:
        yield "The two numbers in brackets behind a latency are the 10th and the 90th percentile of its runs."
    yield "A dash stands for what was not measured; nothing is filled in."


def sources_section(sources: Sequence[Source]) -> Section:
    """The environment and the settings of each file, and the command that makes such a file."""
    return Section(
        "Where the figures come from",
        "Every file with its machine, its settings and a command that makes it again. Paths are as they were "
        "recorded, words in capitals are yours to fill in, and all settings are below the command.",
        facts=tuple(map(_source, sources)),
    )


def _source(source: Source) -> Facts:
    machine = {name: source.environment[name] for name in MACHINE if name in source.environment}
    rest = {name: value for name, value in source.environment.items() if name not in MACHINE}
    groups = (("Libraries", _entries(_libraries(rest))), ("Settings", _entries(source.settings)))
    return Facts(
        source.name,
        (("kind", source.kind), *facts(machine)),
        tuple(map(shlex.quote, (PROGRAM, *source.command))),
        tuple((name, entries) for name, entries in groups if entries),
    )


def _libraries(rest: Mapping[str, Any]) -> dict[str, Any]:
    """Versions by library, then whatever else the environment holds."""
    found = rest.get("libraries")
    others = {name: value for name, value in rest.items() if name != "libraries"}
    return {**(found if isinstance(found, Mapping) else {}), **others}


def _entries(content: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(facts(content))
