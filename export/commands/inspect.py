"""`fastadasp-export inspect`: what an artifact holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .command import StrictCommand
from .parameters import PATH, verify_of, verify_option

if TYPE_CHECKING:
    from ...runtime.artifact.verification import Verify

VERIFIED: dict[Verify, str] = {
    "always": "every file by its hash",
    "cached": "every file by its hash, large ones now or earlier on this machine",
    "never": "small files by their hash, large ones by their size",
}


@click.command(cls=StrictCommand, short_help="Verify an artifact and show what it holds.")
@click.argument("artifact", type=PATH)
@verify_option
def inspect(artifact: Path, verify: bool | None) -> None:
    """Verify ARTIFACT and show what it holds."""
    from ...runtime.artifact.artifact import open_artifact
    from ...runtime.tables.artifact import artifact_sections
    from ...runtime.tables.tables import console, show

    how = verify_of(verify)
    show(console(), artifact_sections(open_artifact(artifact, verify=how), VERIFIED[how]))
