"""Faults of one field of a manifest: what its value is not, and limits that several fields have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ....profiles.faults import shown
from ..manifest import Manifest

ITEM_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
"""Precision that graphs compute in -> bytes of one number."""

QUANTIZED = ("int8", "int4")
LARGEST = 2**31 - 1  # of sizes that have no limit of their own
LARGEST_FILE = 2**60  # bytes
MOST_AXES = 8  # of a tensor
HASH = re.compile("[0-9a-f]{64}")


def text_fault(place: str, text: str) -> Iterator[str]:
    """A fault for what a terminal could not show as it is."""
    if not text or not text.isprintable():
        yield f"{place} is {shown(text)}: it is no text in one line"


def known_fault(place: str, value: str, known: Iterable[str]) -> Iterator[str]:
    """A fault for a value that is none of those known."""
    if value not in known:
        yield f"{place} is {shown(value)}; known are {', '.join(known)}"


def ids_faults(place: str, ids: Iterable[int], vocab_size: int) -> Iterator[str]:
    """A fault for token ids outside the vocabulary, which names the first of them."""
    if outside := [i for i in ids if not 0 <= i < vocab_size]:
        yield f"{place}: {shown(outside[0])} is not one of {vocab_size} tokens"


def listed_fault(place: str, name: str, manifest: Manifest) -> Iterator[str]:
    """A fault for the name of a file that the manifest does not list."""
    if name not in manifest.files:
        yield f"{place} is {shown(name)}, which is not among the files"


def keys_fault(place: str, found: Iterable[str], wanted: Iterable[str]) -> Iterator[str]:
    """A fault where there is not one entry for each of the names."""
    if missing := sorted({*wanted} - {*found}):
        yield f"{place} has none for {', '.join(map(shown, missing))}"
    if more := sorted({*found} - {*wanted}):
        yield f"{place} has one for {', '.join(map(shown, more))}, which is unknown"


def hash_fault(place: str, value: str) -> Iterator[str]:
    """A fault for a text that is no hash."""
    if not HASH.fullmatch(value):
        yield f"{place} is {shown(value)}: it is no SHA-256 of 64 hexadecimal digits"
