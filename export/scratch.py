"""Temporary files and folders beside an output, locked while in use, so that leftovers of kills are known."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path

from ..profiles.locked import lock, lock_at, locked_folder, release, remove

LONGEST_NAME = 200  # bytes of an output's name that a temporary name repeats; file systems take 255 in all
NEW, OLD = "new", "old"


def scratch_prefix(output: Path, kind: str) -> str:
    """How the names begin of what is temporary beside an output: `NEW`, or `OLD` for what it replaced."""
    name = os.fsencode(output.name)
    stem = output.name if len(name) <= LONGEST_NAME else hashlib.sha256(name).hexdigest()
    return f".{stem}.fastadasp-{kind}-"


def new_folder(output: Path) -> tuple[Path, int | None]:
    """Make a folder beside `output`; its lock, which lasts until it is closed, where the system has locks.

    Raises:
        OSError: the place cannot be written.
    """
    return locked_folder(scratch_prefix(output, NEW), output.parent)


def new_file(output: Path) -> tuple[Path, int]:
    """As `new_folder`, a file, open for writing.

    Raises:
        OSError: the place cannot be written.
    """
    while True:
        descriptor, name = tempfile.mkstemp(prefix=scratch_prefix(output, NEW), dir=output.parent)
        try:
            lock_at(descriptor, Path(name))
        except (BlockingIOError, FileNotFoundError):
            os.close(descriptor)
            continue
        except OSError:
            pass
        return Path(name), descriptor


def remove_leftovers(output: Path) -> list[str]:
    """Remove what builds or writes that were killed have left beside an output.

    Where one was killed between the two renames that a system without an exchange needs, the output is
    missing and the old one stands beside it: that goes back to its place.

    Returns:
        a line for each: what was done.
    """
    return [line for kind in (OLD, NEW) for path in _leftovers(output, kind) if (line := _tidy(path, output))]


def _leftovers(output: Path, kind: str) -> list[Path]:
    ours = re.compile(re.escape(scratch_prefix(output, kind)) + "[a-z0-9_]{8}")
    try:
        return sorted(path for path in output.parent.iterdir() if ours.fullmatch(path.name))
    except OSError:
        return []


def _tidy(path: Path, output: Path) -> str | None:
    """One of them; None where it is in use, or cannot be removed."""
    try:
        descriptor = lock(path)
    except OSError:
        return None
    try:
        if path.name.startswith(scratch_prefix(output, OLD)) and not os.path.lexists(output):
            path.rename(output)
            return f"{output} was put back, which a run that was killed had moved to {path.name}"
        remove(path)
        return None if os.path.lexists(path) else f"removed {path}, which a run that was killed has left"
    except OSError:
        return None
    finally:
        release(descriptor)
