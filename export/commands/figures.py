"""`fastadasp-export figures`: what was measured of an artifact, taken into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .command import StrictCommand
from .figures_parameters import figures_options, say_figures, sources_of
from .parameters import PATH


@click.command(cls=StrictCommand, short_help="Record measured figures in an artifact.")
@click.argument("artifact", type=PATH)
@figures_options
def figures(artifact: Path, **values: Any) -> None:
    """Record in ARTIFACT what was measured of it, so that requests may ask for the profile auto.

    A profile is accepted if the upper end of the paired 95 % interval of its loss is within the budget of the
    evaluation; one that is not is recorded as such, with the reason, and never chosen. What is given replaces
    all figures of its kind. No file but the manifest changes; inspect shows the figures.
    """
    if (sources := sources_of(values)) is None:
        raise click.UsageError(
            "give --accepted (of eval or tune), --latency (of bench), or both; inspect shows what is recorded"
        )
    from ..figures.take_in import take_in

    say_figures(take_in(artifact, sources), sources)
    click.echo(f"figures in {artifact}", err=True)
