"""Faults that options of every kind can have, each as a part of the sentence that an error is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from numbers import Integral
from typing import TypeGuard


def is_count(value: object, least: int = 0) -> TypeGuard[int]:
    """Whether a value is a whole number of at least so much; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def count_faults(options: object, least: Mapping[str, int]) -> Iterator[str]:
    """A fault for each field of `options` that is no whole number of at least what `least` has for it."""
    for name, limit in least.items():
        yield from count_fault(name, getattr(options, name), limit)


def count_fault(name: str, value: object, least: int) -> Iterator[str]:
    """As `count_faults`, of one value."""
    if not is_count(value, least):
        yield f"{name} is {value!r}: give a whole number of at least {least}"
