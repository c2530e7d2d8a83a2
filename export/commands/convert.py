"""`fastadasp-export convert`: a training checkpoint in, a folder that `build` reads out."""

from __future__ import annotations

from pathlib import Path

import click

from .command import StrictCommand
from .parameters import PATH, require_all


@click.command(cls=StrictCommand, short_help="Turn a training checkpoint into a folder.")
@click.argument("source", type=PATH, metavar="FINAL.PT")
@click.option("-o", "--output", type=PATH, required=True, metavar="DIR", help="The checkpoint's folder.")
@click.option(
    "--tokenizer", type=PATH, required=True, metavar="FILE", help="Its SentencePiece model, tokenizer.model."
)
@click.option(
    "--config",
    "settings",
    type=PATH,
    metavar="FILE",
    help="JSON with settings that count instead of those that the tensors tell.",
)
def convert(source: Path, output: Path, tokenizer: Path, settings: Path | None) -> None:
    """Write FINAL.PT, which a fairseq training has saved, as a folder that build reads.

    Nothing in the file is run. Weights keep their number format, and are copied one by one.
    """
    require_all({"export": ("onnx", "torch", "safetensors")})
    from ...runtime.tables.tables import console
    from ..convert.convert import convert as convert_file

    def say(line: str) -> None:
        screen.print(line, markup=False, highlight=False, soft_wrap=True)

    screen = console(stderr=True)
    convert_file(source, output, tokenizer, settings, report=say, notice=say)
    click.echo(f"{output}: written; build it with fastadasp-export build {output} -o ART --profile full")
