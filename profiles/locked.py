"""Files and folders that are locked while in use; a lock ends with its process, however that ends."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def lock_open(descriptor: int, *, wait: bool = False) -> None:
    """Lock an open file or folder.

    Raises:
        BlockingIOError: another process has it.
        OSError: this system, or the file system, has no locks.
    """
    try:
        import fcntl
    except ImportError:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP)) from None
    fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def lock_at(descriptor: int, path: Path, *, wait: bool = False) -> None:
    """As `lock_open`, of what was opened at a path and must still stand there.

    Raises:
        BlockingIOError: another process has it, or it has just been moved.
        OSError: it has gone, or cannot be locked on this system.
    """
    lock_open(descriptor, wait=wait)
    if not os.path.samestat(os.fstat(descriptor), path.stat()):
        raise BlockingIOError(errno.EAGAIN, "moved", str(path))


def lock(path: Path, *, wait: bool = False) -> int:
    """Lock a file or folder until the descriptor that is returned is closed, or the process ends.

    Errors are those of `lock_at`.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        lock_at(descriptor, path, wait=wait)
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


def locked_folder(prefix: str, parent: Path) -> tuple[Path, int | None]:
    """Make a folder of a new name; its lock, where the system has locks.

    Raises:
        OSError: the place cannot be written.
    """
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        try:
            return folder, lock(folder)
        except (BlockingIOError, FileNotFoundError):  # taken for a leftover before it was locked
            continue
        except OSError:
            return folder, None


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, though it may be read-only. What is gone is gone."""
    if path.is_dir() and not path.is_symlink():
        for folder, _, _ in os.walk(path):
            with suppress(OSError):
                Path(folder).chmod(0o700)
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
