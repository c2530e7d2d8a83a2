"""Options that take figures of result files into an artifact, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .command import Command, with_options
from .evaluation_parameters import least_recordings_option
from .lists import FILES, list_option
from .parameters import PATH, refuse_given

if TYPE_CHECKING:
    from ...runtime.artifact.manifest import Manifest
    from ..figures.take_in import Sources


def figures_options(command: Command) -> Command:
    """Add the files that figures are taken from, and by how many recordings a profile may be accepted."""
    options = (
        list_option(
            "--accepted",
            "accepted",
            FILES,
            "Record what profiles lose, and whether that is accepted: results of eval or tune.",
            metavar="FILE",
        ),
        click.option(
            "--latency", type=PATH, metavar="FILE", help="Record how long profiles take: a result of bench."
        ),
        least_recordings_option,
    )
    return with_options(command, options)


def sources_of(values: dict[str, Any]) -> Sources | None:
    """The result files that those options name, read; None where there is none.

    Raises:
        ResultsError: with every fault of each file.
        click.UsageError: a number of recordings for nothing.
    """
    if not values["accepted"]:
        refuse_given(click.get_current_context(), ("least_recordings",), "of --accepted, which is not given")
    if not values["accepted"] and values["latency"] is None:
        return None
    from ..figures.take_in import Sources

    return Sources.read(tuple(map(Path, values["accepted"])), values["latency"], values["least_recordings"])


def say_figures(manifest: Manifest, sources: Sources) -> None:
    """Say on stderr which profiles are accepted, or why not, and of what there are latencies."""
    from ...runtime.choice.acceptance import verdicts
    from ...runtime.tables.benchmark import busy_lines

    figures = manifest.figures
    if sources.accepted and figures and figures.accuracy:
        for profile, found in verdicts(figures.accuracy):
            click.echo(f"{profile}: {'' if found.is_accepted else 'NOT '}accepted: {found.reason}", err=True)
    if sources.latency and figures and figures.latency:
        latency = figures.latency
        lengths = sorted({time.audio_seconds for times in latency.times.values() for time in times})
        shown = ", ".join(f"{length:g}" for length in lengths)
        click.echo(
            f"latency of {', '.join(latency.times)} at {shown} s of audio, on {latency.machine.in_words}",
            err=True,
        )
        for line in busy_lines(sources.latency.found.environment):
            click.echo(line, err=True)
