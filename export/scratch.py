"""Temporary files and folders beside an output, locked while in use, so that leftovers of kills are known."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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
    while True:
        folder = Path(tempfile.mkdtemp(prefix=scratch_prefix(output, NEW), dir=output.parent))
        try:
            return folder, lock(folder)
        except (BlockingIOError, FileNotFoundError):  # taken for a leftover before it was locked
            continue
        except OSError:
            return folder, None


def new_file(output: Path) -> tuple[Path, int]:
    """As `new_folder`, a file, open for writing.

    Raises:
        OSError: the place cannot be written.
    """
    while True:
        descriptor, name = tempfile.mkstemp(prefix=scratch_prefix(output, NEW), dir=output.parent)
        try:
            _flock(descriptor, Path(name), wait=False)
        except (BlockingIOError, FileNotFoundError):
            os.close(descriptor)
            continue
        except OSError:
            pass
        return Path(name), descriptor


def lock(path: Path, *, wait: bool = False) -> int:
    """Lock a file or folder until the descriptor that is returned is closed, or the process ends.

    Raises:
        BlockingIOError: another process has it, or it has just been moved.
        OSError: it is not there, or cannot be locked on this system.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _flock(descriptor, path, wait=wait)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Keep a path locked, once another process has let go of it. Where there are no locks, go on without."""
    descriptor = None
    while descriptor is None:
        try:
            descriptor = lock(path, wait=True)
        except BlockingIOError:  # it was moved while we waited: take what stands there now
            continue
        except OSError:
            break
    try:
        yield
    finally:
        release(descriptor)


def release(descriptor: int | None) -> None:
    """Give a lock back."""
    if descriptor is not None:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, though it may be read-only. What is gone is gone."""
    if path.is_dir() and not path.is_symlink():
        for folder, _, _ in os.walk(path):
            with suppress(OSError):
                Path(folder).chmod(0o700)
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


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


def _flock(descriptor: int, path: Path, *, wait: bool) -> None:
    try:
        import fcntl
    except ImportError:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), str(path)) from None
    fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    if not os.path.samestat(os.fstat(descriptor), path.stat()):
        raise BlockingIOError(errno.EAGAIN, "moved", str(path))
