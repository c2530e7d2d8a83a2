"""A lock that keeps a second run off a file, where the system has locks; it ends with the process."""

from __future__ import annotations

from io import FileIO
from pathlib import Path

from ...profiles.errors import JournalError
from ...profiles.locked import lock_open


def lock(stream: FileIO, path: Path) -> None:
    """Lock an open file.

    Raises:
        JournalError: another run has locked it.
    """
    try:
        lock_open(stream.fileno())
    except BlockingIOError:
        raise JournalError(
            f"{path} is in use by another run; wait for it, or choose another output"
        ) from None
    except OSError:  # there are no locks here: go on without
        return
