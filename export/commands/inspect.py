"""`fastadasp-export inspect`: what an artifact holds."""

from __future__ import annotations

from pathlib import Path

import click

from .command import StrictCommand
from .parameters import PATH


@click.command(cls=StrictCommand)
@click.argument("artifact", type=PATH)
@click.option("--verify", is_flag=True, help="Hash large weight files whole, too.")
def inspect(artifact: Path, verify: bool) -> None:
    """Verify ARTIFACT and show what it holds."""
    from ...runtime.artifact.artifact import open_artifact
    from ...runtime.tables.artifact import artifact_sections
    from ...runtime.tables.tables import console, show

    opened = open_artifact(artifact, full=verify)
    verified = "every file by its hash" if verify else "every file by its hash, large ones by sampled blocks"
    show(console(), artifact_sections(opened, verified))
