"""Folders that take a name in one step, as far as the system has such a step."""

from __future__ import annotations

import ctypes
import errno
import os
import tempfile
from pathlib import Path

from ..profiles.locked import remove
from ..runtime.artifact.manifest import FILE_NAME
from .scratch import OLD, scratch_prefix

HERE = -100  # AT_FDCWD of Linux: paths start where the process is
NO_REPLACE, EXCHANGE = 1, 2  # RENAME_NOREPLACE, RENAME_EXCHANGE
UNKNOWN = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EXDEV)  # of a system without it, or not here


def put(new: Path, output: Path) -> None:
    """Give a folder a name that nothing has.

    Raises:
        FileExistsError: something has it by now.
    """
    if rename_with(new, output, NO_REPLACE):
        return
    if os.path.lexists(output):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(output))
    new.rename(output)


def replace(new: Path, output: Path) -> Path:
    """Give a folder the name of another.

    Returns:
        where that other one stands now.
    """
    if rename_with(new, output, EXCHANGE):
        return new
    old = Path(tempfile.mkdtemp(prefix=scratch_prefix(output, OLD), dir=output.parent))
    try:
        output.rename(old)  # over an empty folder; `remove_leftovers` puts it back if we end here
    except OSError as error:
        old.rmdir()
        if error.errno != errno.EXDEV:
            raise
        _empty(output)  # a folder in a lower layer of an overlay, as in an image, cannot be moved at all
        new.rename(output)
        return old
    try:
        new.rename(output)
    except BaseException:
        old.rename(output)
        raise
    return old


def _empty(output: Path) -> None:
    """Remove an artifact, its manifest last: until then, it is known as one."""
    for entry in output.iterdir():
        if entry.name != FILE_NAME:
            remove(entry)
    remove(output)


def rename_with(source: Path, target: Path, flag: int) -> bool:
    """Rename as Linux does with a flag; False where this system or file system does not know it.

    Raises:
        OSError: it knows it, and cannot.
    """
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name == "posix" else None
    if call is None:
        return False
    if call(HERE, os.fsencode(source), HERE, os.fsencode(target), flag) == 0:
        return True
    code = ctypes.get_errno()
    if code in UNKNOWN:
        return False
    raise OSError(code, os.strerror(code), str(source), None, str(target))
