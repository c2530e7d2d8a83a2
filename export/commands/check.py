"""`fastadasp-export check`: parity with recorded outputs of a reference implementation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .parameters import PATH, require

if TYPE_CHECKING:
    from ..parity import GoldenResult


@click.command()
@click.argument("checkpoint", type=PATH, required=False)
@click.option(
    "--golden",
    type=PATH,
    required=True,
    metavar="DIR",
    help="Recorded outputs: golden.json, golden.safetensors.",
)
@click.pass_context
def check(ctx: click.Context, checkpoint: Path | None, golden: Path) -> None:
    """Compare CHECKPOINT with recorded outputs: a line a setting.

    Without CHECKPOINT, DIR holds the model, too. Exits with 1 if KV lengths, tokens or logits differ.
    """
    require("onnx", "safetensors")
    from ..parity import ATOL, check_golden

    results = check_golden(golden, checkpoint or golden, report=_print)
    failed = sum(not result.passed for result in results)
    agreed = f"{len(results) - failed} of {len(results)} settings agree"
    click.echo(f"{agreed}: KV lengths and tokens identical, logits within {ATOL:g}")
    ctx.exit(1 if failed or not results else 0)


def _print(result: GoldenResult) -> None:
    verdict = "ok  " if result.passed else "FAIL"
    click.echo(
        f"{verdict} {result.index:2}  {result.label:<46}  logits {result.logit_error:.1e}{_faults(result)}"
    )


def _faults(result: GoldenResult) -> str:
    faults = {
        "KV lengths differ": not result.lengths_match,
        "tokens differ": not result.tokens_match,
        f"above {result.atol:g}": not result.logit_error <= result.atol,
    }
    return "".join(f", {text}" for text, found in faults.items() if found)
