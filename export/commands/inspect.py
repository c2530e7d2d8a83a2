"""`fastadasp-export inspect`: what an artifact holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .command import StrictCommand
from .parameters import PATH, verify_option

if TYPE_CHECKING:
    from ...runtime.artifact.verification import Verify

VERIFIED = {
    "always": "",
    "cached": ", large ones now or earlier on this machine",
    "never": ", but for large ones, of which only the size",
}


@click.command(cls=StrictCommand)
@click.argument("artifact", type=PATH)
@verify_option
def inspect(artifact: Path, verify: Verify) -> None:
    """Verify ARTIFACT and show what it holds."""
    from ...runtime.artifact.artifact import open_artifact
    from ...runtime.tables.artifact import artifact_sections
    from ...runtime.tables.tables import console, show

    opened = open_artifact(artifact, verify=verify)
    show(console(), artifact_sections(opened, f"every file by its hash{VERIFIED[verify]}"))
