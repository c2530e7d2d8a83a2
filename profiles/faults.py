"""Faults that options of every kind can have, each as a part of the sentence that an error is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from numbers import Integral
from typing import TypeGuard

LONGEST_SHOWN = 80
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
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= longest else f"{text[: longest - 2]} …"
