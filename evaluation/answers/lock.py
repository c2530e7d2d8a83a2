"""A lock that keeps a second run off a file, where the system has locks; it ends with the process."""

from __future__ import annotations

from io import FileIO
from pathlib import Path

from ...profiles.errors import JournalError
from ...profiles.locked import lock_at


def lock(stream: FileIO, path: Path, used: Path | None = None) -> None:
    """Lock an open file, which must still stand at its path: a run that ends may remove it.

    Args:
        stream: the file.
        path: where it was opened.
        used: what a message says is in use, if not the file.

    Raises:
        JournalError: another run has locked it, or has just removed it.
    """
    try:
        lock_at(stream.fileno(), path)
    except (BlockingIOError, FileNotFoundError):
        raise JournalError(
            f"{used or path} is in use by another run; wait for it, or choose another output"
        ) from None
    except OSError:  # there are no locks here: go on without
        return
