"""An output folder that appears whole or not at all, and replaces only what is ours."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..profiles.errors import FastAdaSPError, OutputError
from ..profiles.locked import held, release, remove
from .ownership import ARTIFACT, DamagedManifestError, Kind, foreign_entries, refuse_in_artifact
from .scratch import new_folder, remove_leftovers
from .swap import put, replace

NAMED = 5  # foreign files in a message

Notice = Callable[[str], None]
"""Called with a line for the user: what an earlier run has left, and what became of it."""


def check_output(output: Path, force: bool, notice: Notice = lambda _: None, kind: Kind = ARTIFACT) -> None:
    """Refuse a place that a folder of that kind cannot take, in an artifact, or where something else is.

    What a killed run has left there is removed.

    Raises:
        OutputError: with the remedy.
    """
    place = _followed(output)
    for line in remove_leftovers(place):
        notice(line)
    if os.path.lexists(place):
        exists = f"output {output} exists; give another folder"
        try:
            _check_ours(place, output, kind)
        except OutputError:
            if force:
                raise
            raise OutputError(exists) from None
        if not force:
            raise OutputError(f"{exists}, or --force to replace it")
    refuse_in_artifact(output)
    nearest = next(parent for parent in place.absolute().parents if parent.exists())
    if not nearest.is_dir():
        raise OutputError(f"output {output}: {nearest} is a file; choose another folder")


@contextmanager
def temporary_folder(output: Path, force: bool, kind: Kind = ARTIFACT) -> Iterator[Path]:
    """A folder beside `output` that takes its name on success, in one step, and vanishes on failure.

    A link is followed: it stays, and the folder that it names is written.

    Raises:
        OutputError: the place cannot be written, is taken by now, or the disk is full.
    """
    place = _followed(output)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        folder, lock = new_folder(place)
    except OSError as error:
        raise OutputError(f"output {output}: {error.strerror}; choose a folder that can be written") from None
    try:
        yield folder
        folder.chmod(0o755)
        _place(folder, place, output, force, kind)
    except FastAdaSPError:
        raise
    except OSError as error:
        raise _explained(error, output) from error
    finally:
        remove(folder)
        release(lock)


def _place(folder: Path, place: Path, output: Path, force: bool, kind: Kind) -> None:
    """Give the folder its name; what it replaces is removed afterwards."""
    try:
        put(folder, place)
    except FileExistsError:
        if not force:
            raise
    else:
        return
    with held(place):
        _check_ours(place, output, kind)
        remove(replace(folder, place))


def _check_ours(place: Path, output: Path, kind: Kind) -> None:
    try:
        listed = kind.listed_files(place)
    except DamagedManifestError as error:
        raise OutputError(
            f"output {output}: {error}, so what belongs to the {kind.name} is not known; move it elsewhere, "
            "or give another folder"
        ) from None
    if listed is None:
        raise OutputError(
            f"output {output} is not {kind.article} {kind.name}; --force replaces {kind.name}s only"
        )
    if foreign := foreign_entries(place, listed):
        more = f" and {len(foreign) - NAMED} more" if len(foreign) > NAMED else ""
        raise OutputError(
            f"output {output} holds what is no part of the {kind.name}: {', '.join(foreign[:NAMED])}{more}; "
            "move it elsewhere, or give another folder"
        )


def _followed(output: Path) -> Path:
    """Where a link leads, and the links of its folders; a link that leads in a circle stays itself."""
    return Path(os.path.realpath(output))


def _explained(error: OSError, output: Path) -> OSError:
    """An error of the system, with the output where it names no file."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(f"output {output}: the disk is full; free some space and build again")
    if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
        return OutputError(f"output {output} exists by now: another build was faster; give another folder")
    if error.errno == errno.EFBIG:
        return OutputError(
            f"output {output}: a file is larger than this process may write; raise the limit (ulimit -f), or "
            "choose another disk"
        )
    if error.filename is None:
        return OutputError(f"output {output}: {error.strerror or error}; choose a folder that can be written")
    return error
