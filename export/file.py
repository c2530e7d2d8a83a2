"""A file written in one step, and what is no file written to: devices, pipes and our own output."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from pathlib import Path

from .scratch import new_file

STDOUT = 1
OWN = (STDOUT, 2)  # descriptors of stdout and stderr, which /dev/stdout and the like may name
OF_A_NEW_FILE = 0o666  # its mode, less what the user masks


def is_stream(path: Path) -> bool:
    """Whether a path, its links followed, is a device, a pipe, or what stdout or stderr goes to."""
    try:
        status = path.stat()
    except OSError:
        return False
    kinds = (stat.S_ISCHR, stat.S_ISBLK, stat.S_ISFIFO)
    return any(kind(status.st_mode) for kind in kinds) or _own(status) is not None


def is_own_stdout(path: Path) -> bool:
    """Whether a path, its links followed, is what stdout goes to."""
    return is_stream(path) and _own(path.stat()) == STDOUT


def write_file(path: Path, content: bytes) -> None:
    """Write a file: it is replaced in one step and keeps its mode; links stay, and what they name is written.

    Devices and pipes are written to. Where stdout or stderr goes to that very file, the content is one more
    part of it.

    Raises:
        OSError: it cannot be written; a file that was there is as before.
    """
    if is_stream(path):
        _write_to_stream(path, content)
    else:
        _replace(Path(os.path.realpath(path)), content)


def _write_to_stream(path: Path, content: bytes) -> None:
    own = _own(path.stat())
    for stream in (sys.stdout, sys.stderr) if own is not None else ():
        stream.flush()
    descriptor = os.open(path, os.O_WRONLY) if own is None else os.dup(own)
    try:
        _write(descriptor, content)
    finally:
        os.close(descriptor)


def _replace(place: Path, content: bytes) -> None:
    scratch, descriptor = new_file(place)
    try:
        _write(descriptor, content)
        scratch.chmod(_mode(place))
        os.fsync(descriptor)
        scratch.replace(place)
    finally:
        scratch.unlink(missing_ok=True)
        os.close(descriptor)


def _write(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:  # the system may take a part of it
        left = left[os.write(descriptor, left) :]


def _mode(place: Path) -> int:
    """The permissions of the file that is there, or of a new one."""
    try:
        return stat.S_IMODE(place.stat().st_mode)
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return OF_A_NEW_FILE & ~mask


def _own(status: os.stat_result) -> int | None:
    """The descriptor of our output that goes to the same place."""
    for descriptor in OWN:
        with suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), status):
                return descriptor
    return None
