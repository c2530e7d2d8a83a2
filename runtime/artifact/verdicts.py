"""Which files were found to have their hash, remembered from run to run by the identity of the file.

A verdict is an empty file in the user's cache folder, whose name is a hash of all that it depends on: the
machine, the identity of the file and the hash that it has. So it is written in one step, and a file that was
written to, or is another one by now, has none. Where the folder cannot be written, nothing is remembered.
"""

from __future__ import annotations

import os
import platform
import time
from contextlib import suppress
from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path

from blake3 import blake3

FOLDER = Path("fastadasp-export/verified")
MOST = 1000  # verdicts that are kept; beyond that the older half goes
MACHINE_ID = Path("/etc/machine-id")
FINE, COARSE = (
    100_000_000,
    2_100_000_000,
)  # ns: more than a tick of a system clock; than that of old file systems
WHOLE = 1_000_000  # ns: what divides the times of file systems with a coarse clock


@dataclass(frozen=True)
class Identity:
    """What tells a file, and each state of it, from all others on this machine. Times are in nanoseconds.

    The system sets `changed` at every write, and no program can set it back, as it can `modified`.
    """

    device: int
    inode: int
    size: int
    modified: int
    changed: int

    @property
    def is_settled(self) -> bool:
        """Whether the next write cannot fall into the tick of the clock in which the last one was."""
        return time.time_ns() - self.changed > (FINE if self.changed % WHOLE else COARSE)


def identity_of(status: os.stat_result) -> Identity:
    """The identity of a file from what the system says of it."""
    return Identity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def is_known(identity: Identity, expected: str) -> bool:
    """Whether this file was found to have this hash."""
    place = _place(identity, expected)
    return place is not None and os.path.lexists(place)


def remember(identity: Identity, expected: str) -> None:
    """Keep a verdict, if it can be kept."""
    if (place := _place(identity, expected)) is None:
        return
    with suppress(OSError):
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_room(place.parent)
        place.touch()


def forget(identity: Identity, expected: str) -> None:
    """Take a verdict back."""
    if (place := _place(identity, expected)) is not None:
        with suppress(OSError):
            place.unlink(missing_ok=True)


def cache_folder() -> Path | None:
    """Where verdicts are; None without a home, and on Windows, which tells no time of the last change."""
    if os.name == "nt":
        return None
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not caches.is_absolute():
        try:
            caches = Path.home() / ".cache"
        except RuntimeError:
            return None
    return caches / FOLDER


def _place(identity: Identity, expected: str) -> Path | None:
    folder = cache_folder()
    facts = "\0".join(map(str, (*_machine(), *astuple(identity), expected)))
    return None if folder is None else folder / blake3(facts.encode()).hexdigest()


@lru_cache(maxsize=1)
def _machine() -> tuple[str, str]:
    """What tells this machine, at every boot, from others that may share the cache folder, as over NFS."""
    try:
        number = MACHINE_ID.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        number = ""
    return number, platform.node()


def _make_room(folder: Path) -> None:
    entries = list(folder.iterdir())
    if len(entries) < MOST:
        return
    for entry in sorted(entries, key=lambda path: path.stat().st_mtime_ns)[: MOST // 2]:
        entry.unlink(missing_ok=True)
