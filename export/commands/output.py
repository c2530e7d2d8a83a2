"""Files that a command leaves: whole or not at all."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...profiles.errors import OutputError
from ..file import is_stream, write_file
from ..scratch import remove_leftovers

PROFILE_SUFFIX = ".toml"

if TYPE_CHECKING:
    from ...evaluation.results.files import Result

WORDS = "fastadasp.words"
"""Where the context of a run keeps the words of its command line."""


def command_line() -> str:
    """The command line of this run, quoted so that a shell takes it."""
    from ...evaluation.results.files import PROGRAM

    words: tuple[str, ...] = click.get_current_context().meta[WORDS]
    return shlex.join((PROGRAM, *words))


def write_result(path: Path, found: Result) -> None:
    """Write a result file with the command line that made it, whole or not at all.

    Raises:
        OutputError: the place cannot be written.
    """
    from ...evaluation.results.files import result_text

    write_text(path, result_text(found, command_line()))


def write_text(path: Path, content: str) -> None:
    """As `write_result`, of any text."""
    try:
        write_file(path, content.encode("utf-8"))
    except OSError as error:
        raise OutputError(f"output {path}: {error.strerror}; choose a file that can be written") from None


def check_output(path: Path) -> None:
    """Tell before long work that its result has no place. What a killed run has left there is removed.

    Raises:
        OutputError: with the remedy.
    """
    if path.is_dir():
        raise OutputError(f"output {path} is a folder; give a file")
    if is_stream(path):
        if not os.access(path, os.W_OK):
            raise OutputError(f"output {path} cannot be written; choose another")
        return
    place = Path(os.path.realpath(path))
    if place.is_symlink() or (place.exists() and not place.is_file()):
        raise OutputError(f"output {path} is no file; choose another")
    if not place.parent.is_dir() or not os.access(place.parent, os.W_OK):
        where = place.parent if path.is_symlink() else path.parent
        raise OutputError(f"output {path}: {where} is no folder that can be written; choose another")
    for line in remove_leftovers(place):
        click.echo(line, err=True)


def kept_beside(path: Path | None) -> Path | None:
    """The output beside which a stopped run is kept; None where nothing can be, as beside a device."""
    return None if path is None or is_stream(path) else path


def check_restart(restart: bool, output: Path | None, flags: str = "-o") -> None:
    """Refuse to forget what is kept beside an output where there is none; click.UsageError."""
    if restart and kept_beside(output) is None:
        raise click.UsageError(f"--restart: nothing is kept without {flags}; leave it out, or give {flags}")


def profile_name(path: Path) -> str:
    """A profile is called as its file.

    Raises:
        OutputError: the file would not be read as a profile.
    """
    if path.suffix != PROFILE_SUFFIX:
        ending = f"a profile is read by the ending {PROFILE_SUFFIX}"
        raise OutputError(f"output {path}: {ending}; give {path}{PROFILE_SUFFIX}")
    return path.stem
