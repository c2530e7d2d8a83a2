"""Faults that options of every kind can have, each as a part of the sentence that an error is."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TypeGuard

from .errors import FastAdaSPError

LONGEST_SHOWN = 80
LONGEST_NAME = 100  # of a field in the place of a fault
MOST_FAULTS = 10  # of one record in a message
NO_LIMITS: Mapping[str, int] = {}


def is_count(value: object, least: int = 0) -> TypeGuard[int]:
    """Whether a value is a whole number of at least so much; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def count_faults(
    options: object, least: Mapping[str, int], most: Mapping[str, int] = NO_LIMITS
) -> Iterator[str]:
    """A fault for each field of `options` that is no whole number of at least what `least` has for it.

    A field that `most` has may not exceed it either.
    """
    for name, limit in least.items():
        yield from count_fault(name, getattr(options, name), limit, most.get(name))


def count_fault(name: str, value: object, least: int, most: int | None = None) -> Iterator[str]:
    """As `count_faults`, of one value."""
    if not is_count(value, least):
        yield f"{name} is {shown(value)}: give a whole number of at least {least}"
    elif most is not None and int(value) > most:
        yield f"{name} is {shown(value)}: give at most {most}"


def shown(value: object, longest: int = LONGEST_SHOWN) -> str:
    """A value of any kind as messages show it: as Python writes it, printable, and cut where it is long."""
    try:
        text = repr(value[: longest + 1] if isinstance(value, str | bytes) else value)
    except (ValueError, RecursionError):  # an integer of more digits than Python writes, or a deep nesting
        return f"a {type(value).__name__} too large to show"
    text = encodable(text)
    return text if len(text) <= longest else f"{text[: longest - 2]} …"


def at(place: str, name: str) -> str:
    """The place of a field within that of its record; of the outermost record that is empty."""
    name = name if name.isprintable() else repr(name)
    name = name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…"
    return f"{place}.{name}" if place else name


def few(faults: Sequence[str]) -> tuple[str, ...]:
    """The first faults of many, and how many more there are."""
    more = len(faults) - MOST_FAULTS
    return (*faults[:MOST_FAULTS], *([f"and {more} more faults"] if more > 0 else ()))


def is_unicode(text: str) -> bool:
    """Whether a text has an encoding: bytes of a command line that are not UTF-8 become half surrogates."""
    return text.encode("utf-8", "replace") == text.encode("utf-8", "surrogatepass")


def encodable(text: str) -> str:
    """A text with an escape for each half surrogate in it."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def text_fault(name: str, value: object) -> Iterator[str]:
    """A fault for what is no text that can be encoded."""
    if not isinstance(value, str):
        yield f"{name} is {shown(value)}: give a text"
    elif not is_unicode(value):
        yield f"{name} {shown(value)}: it holds what is not UTF-8; give it as UTF-8"


def is_seconds(value: object) -> TypeGuard[float]:
    """Whether a value is a finite number of at least 0; True and False are none."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    return is_number and 0 <= value < math.inf  # type: ignore[operator]


def seconds_fault(name: str, value: object) -> Iterator[str]:
    """A fault for what is no number of seconds."""
    if not is_seconds(value):
        yield f"{name} is {shown(value)}: give seconds, at least 0"


def flag_fault(name: str, value: object) -> Iterator[str]:
    """A fault for what is neither True nor False."""
    if not isinstance(value, bool):
        yield f"{name} is {shown(value)}: give True or False"


def names_fault(name: str, value: object) -> Iterator[str]:
    """A fault for what is no tuple of texts."""
    if not isinstance(value, tuple) or not all(isinstance(item, str) for item in value):
        yield f"{name} is {shown(value)}: give a tuple of names"


def path_of(name: str, value: object, remedy: str, kind: type[FastAdaSPError]) -> Path:
    """A path that may be given as a text.

    Raises:
        kind: it is neither; the message ends with the remedy.
    """
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(path, str) or "\0" in path:
        raise kind(f"{name} is {shown(value)}: give {remedy}")
    return Path(path)
