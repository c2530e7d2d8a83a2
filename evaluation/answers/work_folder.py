"""The folder beside an output that holds what long work has found so far, until the output is written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...profiles.errors import OutputError
from ...profiles.temporary import temporary_folder
from .lock import lock

LOCK = "lock"
JOURNALS = "*.jsonl"


def work_folder_of(output: Path) -> Path:
    """Where the work folder of an output stands."""
    return output.with_name(f"{output.name}.work")


@contextmanager
def work_folder(output: Path | None, *, restart: bool = False) -> Iterator[Path]:
    """A folder to work in. It is removed with the end of the work, and kept where that was stopped.

    Args:
        output: what the work is for; without one, nothing is kept.
        restart: forget what an earlier run has left.

    Raises:
        JournalError: another run works in it.
        OutputError: it cannot be written.
    """
    if output is None:
        with temporary_folder() as scratch:
            yield scratch
        return
    folder = work_folder_of(output)
    try:
        folder.mkdir(exist_ok=True)
        stream = (folder / LOCK).open("ab", buffering=0)
    except OSError as error:
        raise OutputError(f"folder {folder}: {error.strerror}; choose another output") from None
    with stream:
        lock(stream, folder / LOCK, folder)
        if restart:
            _forget(folder)
        try:
            yield folder
        except BaseException:
            if not any(folder.glob(JOURNALS)):  # nothing that is worth going on with
                shutil.rmtree(folder)
            raise
        shutil.rmtree(folder)


def _forget(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()
