"""Options of commands that measure or predict a matrix of cases, and what their model is stored in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from ..model.formats import INT4_BLOCKS
from .command import Command
from .lists import INTEGERS, REALS, list_option


def case_options(defaults: Callable[[str], dict[str, Any]], more: str = "") -> Callable[[Command], Command]:
    """Add the numbers of beams and the lengths of audio.

    Args:
        defaults: what `list_option` takes as the default of a field.
        more: what the help says at its end.
    """

    def add(command: Command) -> Command:
        lengths = "audio_seconds", REALS, f"Lengths of audio{more}."
        command = list_option("--audio-seconds", *lengths, metavar="S", **defaults("audio_seconds"))(command)
        numbers = "beams", INTEGERS, f"Numbers of beams{more}."
        return list_option("--beams", *numbers, metavar="N", **defaults("beams"))(command)

    return add


def int4_block_option(command: Command) -> Command:
    """Add how many inputs of a matrix share a scale in int4."""
    return click.option(
        "--int4-block",
        type=click.Choice([str(block) for block in INT4_BLOCKS]),
        default=str(INT4_BLOCKS[0]),
        show_default=True,
        help="Inputs that share a scale in int4 on ONNX Runtime: more are smaller, faster and less exact.",
    )(command)
