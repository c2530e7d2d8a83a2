"""Open files compared with their records: by hash, once, as long as they stay the same files."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Literal, get_args

from ...profiles.errors import RequestError
from ...profiles.faults import shown
from .hashing import blake3_of
from .manifest import FileRecord
from .verdicts import FINE, Identity, forget, identity_of, is_known, remember

LARGE_BYTES = 64 << 20  # files up to this size are hashed on every load

Verify = Literal["cached", "always", "never"]
"""When a large file is hashed: unless it was on this machine since it was last written; each time; never."""
HASH_FAULT = "does not match its hash"
WORDS: tuple[Verify, ...] = get_args(Verify)


def verify_of(value: object) -> Verify:
    """How to verify: a word, or True for always and False for cached.

    Raises:
        RequestError: anything else.
    """
    if isinstance(value, bool):
        return "always" if value else "cached"
    for word in WORDS:
        if isinstance(value, str) and value == word:
            return word
    raise RequestError(f"verify is {shown(value)}: give {', '.join(map(repr, WORDS))}, True or False")


def large_files(folder: Path, names: Iterable[str]) -> dict[str, Identity]:
    """The identities of the large ones among some files."""
    found = {name: identity_of((folder / name).stat()) for name in names}
    return {name: identity for name, identity in found.items() if identity.size > LARGE_BYTES}


def remember_built(folder: Path, files: Mapping[str, FileRecord], before: Mapping[str, Identity]) -> None:
    """Keep what a build knows of its large files, so that the first load need not read them.

    Args:
        folder: the artifact in its place.
        files: the records of its files.
        before: what `large_files` gave before they were hashed. Since then an artifact that was replaced
            may have let go of a link to such a file, which alters only the time of the last change.
    """
    after = large_files(folder, before)
    if not all(identity.is_settled for identity in after.values()):
        time.sleep(FINE / 1e9)
    for name, identity in large_files(folder, after).items():
        same = identity == after[name] and replace(identity, changed=before[name].changed) == before[name]
        if same and identity.is_settled:
            remember(identity, files[name].blake3)


class Verifier:
    """What one loaded artifact knows of its files."""

    def __init__(self) -> None:
        self._trusted: set[tuple[Identity, str]] = set()

    def first_fault(
        self, stream: FileIO, record: FileRecord, verify: Verify, tick: Callable[[int], None]
    ) -> str | None:
        """What is wrong with a file that is opened for the first time, or None.

        Args:
            stream: the open file.
            record: what the manifest says of it.
            verify: when it is hashed, if it is large.
            tick: told how many more bytes were hashed.
        """
        if verify == "never" and record.size > LARGE_BYTES:
            self._trusted.add((identity_of(os.fstat(stream.fileno())), record.blake3))
        elif verify == "always":
            return self._size_fault(stream, record) or self._hash_fault(stream, record, tick)
        return self.fault(stream, record, tick)

    def fault(
        self, stream: FileIO, record: FileRecord, tick: Callable[[int], None] = lambda _: None
    ) -> str | None:
        """As `first_fault`, at any later time; nothing is read if it is still the file that was hashed."""
        if fault := self._size_fault(stream, record):
            return fault
        identity = identity_of(os.fstat(stream.fileno()))
        if (identity, record.blake3) in self._trusted:
            return None
        if record.size > LARGE_BYTES and is_known(identity, record.blake3):
            return None
        return self._hash_fault(stream, record, tick)

    def _size_fault(self, stream: FileIO, record: FileRecord) -> str | None:
        size = os.fstat(stream.fileno()).st_size
        return None if size == record.size else f"has {size} bytes instead of {record.size}"

    def _hash_fault(self, stream: FileIO, record: FileRecord, tick: Callable[[int], None]) -> str | None:
        before = identity_of(os.fstat(stream.fileno()))
        settled = before.is_settled
        if blake3_of(stream, record.size, tick) != record.blake3:
            forget(before, record.blake3)
            return HASH_FAULT
        if settled and identity_of(os.fstat(stream.fileno())) == before:
            self._trusted.add((before, record.blake3))
            if record.size > LARGE_BYTES:
                remember(before, record.blake3)
        return None
