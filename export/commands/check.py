"""`fastadasp-export check`: every backend against the reference, or a checkpoint against recorded outputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...runtime.backends import BACKENDS
from ..check.options import CheckOptions, demo_clips
from .command import StrictCommand
from .lists import NAMES, list_option
from .output import refuse_inputs
from .parameters import PATH, device_option, precision_option, require, require_all
from .progress import progress_bar

if TYPE_CHECKING:
    from ..check.recordings.golden import GoldenResult
    from ..check.recordings.whole_path import Agreement

DEFAULTS = CheckOptions()


@click.command(cls=StrictCommand, short_help="Compare every graph with the model in torch.")
@click.argument("source", type=PATH, required=False, metavar="ARTIFACT")
@click.option(
    "--checkpoint",
    type=PATH,
    metavar="CHECKPOINT",
    help="Compare with this, not with the weights in ARTIFACT; quantised matrices one by one.",
)
@list_option("--profile", "profiles", NAMES, "Profiles of ARTIFACT.", otherwise="all")
@click.option(
    "--clip",
    "clips",
    multiple=True,
    type=PATH,
    metavar="FILE",
    help="Audio to run on, repeatable.  [default: in a clone of the repository three clips of demo/clips, "
    "elsewhere none: random input alone]",
)
@list_option(
    "--backend",
    "backends",
    NAMES,
    f"What is checked: {', '.join(BACKENDS)}.",
    default=DEFAULTS.backends,
)
@device_option
@precision_option
@click.option("--save", type=PATH, metavar="DIR", help="Keep inputs and reference outputs for Polygraphy.")
@click.option(
    "--golden",
    type=PATH,
    metavar="DIR",
    help="Compare a CHECKPOINT with recorded outputs instead: golden.json, golden.safetensors.",
)
@click.pass_context
def check(
    ctx: click.Context,
    source: Path | None,
    golden: Path | None,
    checkpoint: Path | None,
    profiles: tuple[str, ...],
    clips: tuple[Path, ...],
    backends: tuple[str, ...],
    save: Path | None,
    device: str | None,
    precision: str | None,
) -> None:
    """Compare every graph of ARTIFACT with the reduced model in torch, on clips and random input.

    Where an output differs, the first layer that does is named. With --golden, a CHECKPOINT takes the
    place of ARTIFACT: it is built under each recorded setting. Exits with 1 if anything differs.
    """
    options = CheckOptions(profiles, clips, backends, checkpoint, save, device, precision)
    if golden is not None and options != DEFAULTS:
        raise click.UsageError(
            "--golden DIR takes a CHECKPOINT and no other option: its settings are recorded"
        )
    if golden is not None:
        ctx.exit(_check_golden(golden, source or golden))
    if source is None:
        raise click.UsageError("give an ARTIFACT, or recorded outputs with --golden DIR")
    if save is not None:
        refuse_inputs(save, (source, checkpoint))
    ctx.exit(_check_artifact(source, options))


def _check_artifact(folder: Path, options: CheckOptions) -> int:
    """Print the table; the exit code."""
    packages = ("onnx", "safetensors", "torch", "transformers")
    require_all({"export": packages, "check": ("polygraphy",)})
    from ...runtime.artifact.artifact import open_artifact
    from ...runtime.tables.tables import console, show
    from ..check.check import check_artifact
    from ..check.matrices import check_matrices
    from ..check.table import differences, matrix_sections, verdict_sections

    artifact = open_artifact(folder)
    clips = options.clips or demo_clips()
    with progress_bar("load") as tick:
        verdicts = check_artifact(artifact, replace(options, clips=clips), tick)
    reference = f"torch with the weights of {options.checkpoint or folder}"
    hint = () if clips else ("Random input only: no clip was given; give some with --clip FILE",)
    show(console(), (*verdict_sections(verdicts, reference), *hint))
    for line in differences(verdicts):
        click.echo(line)
    matrices = check_matrices(artifact, options.checkpoint) if options.checkpoint else []
    show(console(), matrix_sections(matrices))
    passed = [*(verdict.finding.passed for verdict in verdicts), *(each.passed for each in matrices)]
    failed = passed.count(False)
    click.echo(f"{len(passed) - failed} of {len(passed)} agree")
    return 1 if failed else 0


def _check_golden(golden: Path, checkpoint: Path) -> int:
    """Print a line a setting; the exit code."""
    require("onnx", "safetensors")
    from ..check.recordings.golden import check_golden
    from ..check.recordings.whole_path import check_whole_path, is_whole_path

    if is_whole_path(golden):
        agreements = check_whole_path(golden, checkpoint, report=_print_agreement)
        differing = sum(not agreement.passed for agreement in agreements)
        click.echo(f"{len(agreements) - differing} of {len(agreements)} agree: values and tokens")
        return 1 if differing else 0
    results = check_golden(golden, checkpoint, report=_print)
    failed = sum(not result.passed for result in results)
    agreed = f"{len(results) - failed} of {len(results)} settings agree"
    atol = max(result.atol for result in results)
    click.echo(f"{agreed}: KV lengths and tokens identical, logits within {atol:g}")
    return 1 if failed else 0


def _print_agreement(found: Agreement) -> None:
    verdict = "ok  " if found.passed else "FAIL"
    above = () if found.error <= found.atol else (f"above {found.atol:g}",)
    faults = "".join(f", {fault}" for fault in (*found.faults, *above))
    click.echo(f"{verdict} {found.label:<46}  {found.value} {found.error:.1e}{faults}")


def _print(result: GoldenResult) -> None:
    verdict = "ok  " if result.passed else "FAIL"
    click.echo(
        f"{verdict} {result.index:2}  {result.label:<46}  logits {result.logit_error:.1e}{_faults(result)}"
    )


def _faults(result: GoldenResult) -> str:
    faults = {
        "KV lengths differ": not result.lengths_match,
        "tokens differ": not result.tokens_match,
        "alpha of the rotary base differs": not result.alpha_matches,
        f"above {result.atol:g}": not result.logit_error <= result.atol,
    }
    return "".join(f", {text}" for text, found in faults.items() if found)
