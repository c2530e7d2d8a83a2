"""`fastadasp-export build`: a checkpoint in, an artifact out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..build_options import PRECISIONS, WEIGHT_MODES, BuildOptions
from .parameters import PATH, profiles_folder, read_profile, require

if TYPE_CHECKING:
    from rich.console import Console

DEFAULTS = BuildOptions(profiles=())
ORIGINS = {
    "linked": "hard-linked to the checkpoint, no bytes copied",
    "copied": "copied from the checkpoint",
    "converted": "converted to float32",
}


@click.command()
@click.argument("checkpoint", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, metavar="ART", help="The artifact's folder.")
@click.option(
    "--profile", "profiles", multiple=True, required=True, metavar="NAME", help="A profile, or a .toml file."
)
@profiles_folder
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default=DEFAULTS.precision,
    show_default=True,
    help="Numbers of weights and graphs.",
)
@click.option(
    "--weights",
    type=click.Choice(WEIGHT_MODES),
    default=DEFAULTS.weights,
    show_default=True,
    help="Hard links to the checkpoint's files, or copies. Weights of another precision are converted.",
)
@click.option("--force", is_flag=True, default=DEFAULTS.force, help="Replace the artifact that is there.")
def build(
    checkpoint: Path,
    output: Path,
    profiles: tuple[str, ...],
    profiles_folder: Path | None,
    precision: str,
    weights: str,
    force: bool,
) -> None:
    """Build an artifact from CHECKPOINT.

    Give --profile once for each profile. All of them share the weights and the decode graph.
    """
    require("onnx")
    begin = time.perf_counter()
    chosen = tuple(read_profile(name, profiles_folder) for name in profiles)
    from ...runtime.units import size
    from ..pipeline import build as build_artifact

    with Stages() as stages:
        manifest = build_artifact(
            checkpoint, output, BuildOptions(chosen, weights, precision, force), report=stages.begin
        )
    whole = sum(record.size for record in manifest.files.values())
    elapsed = time.perf_counter() - begin
    origin = ORIGINS[manifest.weights.origin]
    click.echo(f"{output}: {size(whole)}, built in {elapsed:.1f} s; weights {origin}")


class Stages:
    """Shows the stage at work, and leaves a line with the time of each one that is done."""

    def __init__(self) -> None:
        from ...runtime.report import console

        self.console: Console = console(stderr=True)
        self.status = self.console.status("")
        self.name, self.since = "", 0.0

    def __enter__(self) -> Stages:
        self.status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._done()
        self.status.stop()

    def begin(self, name: str) -> None:
        """The last stage has ended, the next one begins."""
        self._done()
        self.name, self.since = name, time.perf_counter()
        self.status.update(name)

    def _done(self) -> None:
        if self.name:
            self.console.print(f"{self.name:<32}{time.perf_counter() - self.since:6.2f} s")
