"""`fastadasp-export families`: the models that can be built, and what a folder has to do with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .command import StrictCommand
from .parameters import PATH, require

if TYPE_CHECKING:
    from ...runtime.tables.tables import Section
    from ..model.spec import SpeechModelSpec
    from ..model.survey import Survey


@click.command(cls=StrictCommand, short_help="List model families, or examine a folder.")
@click.argument("folder", type=PATH, required=False)
@click.option("--markdown", is_flag=True, help="Print the families as a table of a page.")
@click.pass_context
def families(ctx: click.Context, folder: Path | None, markdown: bool) -> None:
    """List the families of models, or say what FOLDER is and everything that is wrong with it.

    Of weights only the headers are read. Exits with 1 if FOLDER cannot be built.
    """
    require("onnx", "ml_dtypes", "safetensors")
    from ...runtime.tables.tables import console, show
    from ..model.facts import as_markdown
    from ..model.families.family import known_families

    if folder is not None and markdown:
        raise click.UsageError("--markdown is of the list of families: leave out FOLDER")
    if folder is not None:
        ctx.exit(_look_at(folder))
    if markdown:
        click.echo(as_markdown(known_families()))
    else:
        show(console(), _sections())


def _sections() -> Iterator[Section]:
    from ...runtime.tables.tables import Section, columns
    from ..model.facts import TITLES, values_of
    from ..model.families.family import known_families

    for model_type, facts in known_families().items():
        table = columns("", "", left=2, header=False)
        table.add_row("model_type", model_type)
        for title, text in zip(TITLES.values(), values_of(facts), strict=True):
            table.add_row(title, text.replace("`", ""))
        yield Section(facts.name, table)


def _look_at(folder: Path) -> int:
    """Print what a folder is; the exit code."""
    from ...runtime.tables.tables import Section, columns, console, show
    from ..model.survey import survey

    found, table = survey(folder), columns("", "", left=2, header=False)
    for name, text in _rows(found):
        table.add_row(name, text)
    show(console(), [Section(f"checkpoint {folder}", table)])
    for fault in found.faults:
        click.echo(f"fault: {fault}")
    for note in found.model.notes if found.model else ():
        click.echo(f"note: {note}")
    if not found.faults:
        click.echo(f"can be built: fastadasp-export build {folder} -o ART --profile full")
        return 0
    click.echo(f"cannot be built: {len(found.faults)} fault{'s' * (len(found.faults) > 1)}")
    return 1


def _rows(found: Survey) -> Iterator[tuple[str, str]]:
    yield "family", found.facts.name if found.facts else "none that is known"
    if found.facts:
        yield "tested with", found.facts.state
    if found.model:
        yield from _model_rows(found.model)
    if found.model and not found.faults:
        yield "weights", _weights(found.model)


def _model_rows(model: SpeechModelSpec) -> Iterator[tuple[str, str]]:
    from ...runtime.tables.artifact import longest_audio

    decoder, dims, mel = model.decoder, model.decoder.dims, model.front_end.log_mel
    yield "decoder", f"{dims.num_layers} layers, hidden {dims.hidden_size}, FFN {dims.intermediate_size}"
    yield "vocabulary", f"{dims.vocab_size}, end tokens {', '.join(map(str, model.eos_token_ids)) or 'none'}"
    yield "longest audio", longest_audio(model.front_end, decoder.max_positions)
    if context := decoder.long_context:
        yield "long prompts", context.in_words
    yield "front end", mel.in_words
    yield "prompt", repr(model.prompt.template)[1:-1] if model.prompt else "no tokenizer: token ids only"
    if model.prompt and model.prompt.bare_template:
        yield "without text", repr(model.prompt.bare_template)[1:-1]


def _weights(model: SpeechModelSpec) -> str:
    """Their number formats, their size, and what a build makes of them."""
    from ...runtime.tables.units import size
    from ..checkpoint.checkpoint import Tensor
    from ..checkpoint.weights import weight_store

    stored = {tensor.name: tensor for tensor in model.tensors if isinstance(tensor, Tensor)}
    kinds, whole = (
        ", ".join(sorted({it.dtype for it in stored.values()})),
        sum(it.size_bytes for it in stored.values()),
    )
    return f"{kinds}, {size(whole)}; a build has them {weight_store(model.tensors, 'link').description}"
