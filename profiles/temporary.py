"""Temporary folders; what a killed run has left goes with the next run that works in the same place."""

from __future__ import annotations

import logging
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .locked import lock, locked_folder, release, remove

PREFIX = "fastadasp-"
NAME = re.compile(re.escape(PREFIX) + "[a-z0-9_]{8}")
LOGGER = logging.getLogger(__name__)


@contextmanager
def temporary_folder(place: Path | None = None) -> Iterator[Path]:
    """A folder to work in, which vanishes at the end.

    Args:
        place: where it is made; among the temporary files of the system if None.

    Raises:
        OSError: the place cannot be written.
    """
    place = place or Path(tempfile.gettempdir())
    remove_leftovers(place)
    folder, held = locked_folder(PREFIX, place)
    try:
        yield folder
    finally:
        remove(folder)
        release(held)


def remove_leftovers(place: Path) -> None:
    """Remove the folders of this user that no process works in, and log their names."""
    for path in sorted(path for path in place.iterdir() if NAME.fullmatch(path.name)):
        try:
            if _is_ours(path):
                descriptor = lock(path)
                remove(path)
                release(descriptor)
        except OSError:  # it is in use, or has gone
            continue
        if not os.path.lexists(path):
            LOGGER.info("removed %s, which a run that was killed has left", path)


def _is_ours(path: Path) -> bool:
    """Anyone may put anything there: no link is followed, and nothing of others touched."""
    status = path.lstat()
    return stat.S_ISDIR(status.st_mode) and (not hasattr(os, "geteuid") or status.st_uid == os.geteuid())
