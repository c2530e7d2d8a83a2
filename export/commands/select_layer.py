"""`fastadasp-export select-layer`: where a sparse profile merges, by transfer entropy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from ...profiles.errors import OutputError
from ...profiles.profile import profile_to_toml
from ..accuracy.selection_options import SelectionOptions
from .output import check_output, write_json, write_text
from .parameters import PATH, clip_options, require

DEFAULTS = SelectionOptions(Fraction(1, 2))
SUFFIX = ".toml"


def exact(ctx: click.Context, param: click.Parameter, value: float) -> Fraction:
    """A callback that takes a number as it was typed: 0.1 is one tenth."""
    return Fraction(repr(value))


@click.command("select-layer")
@click.argument("checkpoint", type=PATH)
@clip_options
@click.option(
    "--flops",
    type=click.FloatRange(0, 100, min_open=True, max_open=True),
    callback=exact,
    default=float(100 * DEFAULTS.flops_reduction),
    show_default=True,
    metavar="PERCENT",
    help="Share of the prefill FLOPs that one merge shall remove.",
)
@click.option(
    "--audio-seconds",
    type=click.FloatRange(min=0, min_open=True, max=1e6),
    callback=exact,
    default=float(DEFAULTS.audio_seconds),
    show_default=True,
    metavar="S",
    help="Length of the audio for which ratios are solved.",
)
@click.option(
    "--text-tokens",
    type=click.IntRange(min=0),
    default=DEFAULTS.text_tokens,
    show_default=True,
    metavar="N",
    help="Rows of its prompt that are text.",
)
@click.option(
    "--resamples",
    type=click.IntRange(min=1),
    default=DEFAULTS.resamples,
    show_default=True,
    help="Of the clips, for the spread of the ranks.",
)
@click.option("--seed", type=click.IntRange(min=0), default=DEFAULTS.seed, help="Of the resamples.")
@click.option(
    "--threads", type=click.IntRange(min=0), default=DEFAULTS.threads, help="Threads; 0 is one a core."
)
@click.option("-o", "--output", type=PATH, metavar="FILE.toml", help="Write the profile of that layer.")
@click.option("--json", "results", type=PATH, metavar="FILE", help="Write all figures, with the environment.")
def select_layer(
    checkpoint: Path,
    manifest: Path,
    audio_root: Path | None,
    task: str | None,
    prompt: str,
    flops: Fraction,
    output: Path | None,
    results: Path | None,
    **values: Any,
) -> None:
    """Choose the layer at which one merge in CHECKPOINT harms least, for a sparse profile.

    The transfer entropy of a layer is how far a merge there moves the entropy of the decoder's last block
    from where the same merge at the last layer leaves it. The smallest wins, among the layers from which the
    FLOPs target can be met. The manifest is that of eval; 32 clips or more are worth trusting.
    """
    for path in (output, results):
        if path is not None:
            check_output(path)
    options = SelectionOptions(flops / 100, name=_profile_name(output), **values)
    require("onnx", "torch")
    from ...runtime.report import console, show
    from ..accuracy import select_layer as selection
    from ..accuracy.clips import read_clips
    from ..accuracy.selection_table import selection_sections

    clips = read_clips(manifest, task, audio_root=audio_root, prompt=prompt).clips
    with _progress() as tick:
        found = selection.select_layer(checkpoint, clips, options, tick)
    show(console(), selection_sections(found))
    for warning in found.warnings:
        click.echo(f"warning: {warning}", err=True)
    if output is not None:
        write_text(output, profile_to_toml(found.profile))
    if results is not None:
        write_json(results, found.to_json())


def _profile_name(output: Path | None) -> str:
    """A profile is called as its file."""
    if output is None:
        return DEFAULTS.name
    if output.suffix != SUFFIX:
        raise OutputError(f"output {output}: a profile is read by the ending {SUFFIX}; give {output}{SUFFIX}")
    return output.stem


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """What is going on, on stderr."""
    from ...runtime.report import console

    with console(stderr=True).status("load") as status:
        yield lambda done, clips: status.update(f"clip {done + 1} of {clips}")
