"""`fastadasp-export build`: a checkpoint in, an artifact out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..build_options import ENGINES, PRECISIONS, WEIGHT_MODES, BuildOptions, EngineOptions
from .parameters import PATH, profiles_folder, read_profile, require

if TYPE_CHECKING:
    from rich.console import Console

DEFAULTS = BuildOptions(profiles=())
ENGINE_DEFAULTS = EngineOptions()
GRAPH_PRECISION = "fp32"
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
    help="Numbers of the engines, bf16 by default. Graphs for ONNX Runtime are fp32.",
)
@click.option(
    "--weights",
    type=click.Choice(WEIGHT_MODES),
    default=DEFAULTS.weights,
    show_default=True,
    help="Hard links to the checkpoint's files, or copies. Weights of another precision are converted.",
)
@click.option("--force", is_flag=True, default=DEFAULTS.force, help="Replace the artifact that is there.")
@click.option("--engine", type=click.Choice(ENGINES), help="Build TensorRT engines, too; no GPU is needed.")
@click.option(
    "--sm",
    type=click.Choice(["80"]),
    default=str(ENGINE_DEFAULTS.sm),
    show_default=True,
    help="Compute capability of the GPU; 80 is the A100.",
)
@click.option(
    "--max-audio-seconds",
    type=click.FloatRange(min=1),
    default=ENGINE_DEFAULTS.max_audio_seconds,
    show_default=True,
    help="Longest audio that the engines take.",
)
@click.option(
    "--max-beams",
    type=click.IntRange(min=1),
    default=ENGINE_DEFAULTS.max_beams,
    show_default=True,
    help="Most beams that the decode engine takes.",
)
def build(
    checkpoint: Path,
    output: Path,
    profiles: tuple[str, ...],
    profiles_folder: Path | None,
    weights: str,
    force: bool,
    **engine: Any,
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
        options = BuildOptions(chosen, weights, force, _engine_options(**engine))
        manifest = build_artifact(checkpoint, output, options, report=stages.begin)
    whole = sum(record.size for record in manifest.files.values())
    elapsed = time.perf_counter() - begin
    origin = ORIGINS[manifest.weights.origin]
    click.echo(f"{output}: {size(whole)}, built in {elapsed:.1f} s; weights {origin}")


def _engine_options(
    engine: str | None, precision: str | None, sm: str, max_audio_seconds: float, max_beams: int
) -> EngineOptions | None:
    """What the options of the command ask for; None without --engine."""
    if engine is None:
        if precision not in (None, GRAPH_PRECISION):
            raise click.UsageError(
                f"--precision {precision} is for engines: give --engine {ENGINES[0]} with it"
            )
        return None
    require("tensorrt_rtx")
    chosen = precision or ENGINE_DEFAULTS.precision
    return EngineOptions(engine, int(sm), chosen, max_audio_seconds, max_beams)


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
