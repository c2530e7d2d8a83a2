"""Records as JSON and back: each field is checked against its type, and every fault is named with its place.

A record is a frozen dataclass, in JSON an object of its fields. A field holds a text, a number, true or
false, an exact share (`Fraction`, in JSON a text such as "3/10"), another record, a tuple (a list) or a
mapping (an object) of these, or one of several; `Any` is taken as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from fractions import Fraction
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import FastAdaSPError
from .faults import at, few, shown

Record = TypeVar("Record")
FRACTION = re.compile("[0-9]{1,100}(/[1-9][0-9]{0,99})?")
LARGEST = 10**100  # that a number may be, so that sums and percentages of some are finite, too
SHOWN = 40  # characters of a value in a message


class RecordError(FastAdaSPError, ValueError):
    """JSON that is not what a record writes, or a record that cannot be."""

    def __init__(self, *faults: str) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def to_json(value: Any) -> Any:
    """A record, or what a field of one holds, as JSON takes it."""
    if is_dataclass(value):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(entry) for entry in value]
    return str(value) if isinstance(value, Fraction) else value


def from_json(kind: type[Record], content: Any, *, whole: bool = False) -> Record:
    """The record that `to_json` gave.

    Args:
        kind: its class.
        content: what the JSON holds.
        whole: refuse fields that a record does not have; otherwise they are ignored.

    Raises:
        RecordError: with every field that is missing, of another type or unknown.
    """
    reader = _Reader(whole)
    found: Record = reader.read(kind, content, "")
    if reader.faults:
        raise RecordError(*few(reader.faults))
    return found


class _Reader:
    """Reads values by their types and gathers the faults; where there is one, what is read means nothing."""

    def __init__(self, whole: bool) -> None:
        self.faults: list[str] = []
        self._whole = whole

    def read(self, kind: Any, value: Any, place: str) -> Any:
        """A value of a type."""
        if kind is Any:
            return value
        if is_dataclass(kind):
            return self._record(kind, value, place)
        if (origin := get_origin(kind)) is not None:
            return _PARTS[origin](self, get_args(kind), value, place)
        is_right, name = _SCALARS[kind]
        found = self._checked(value, is_right(value), name, place)
        return Fraction(found) if kind is Fraction and found is not None else found

    def _record(self, kind: Any, value: Any, place: str) -> Any:
        before, values = len(self.faults), {}
        if self._checked(value, isinstance(value, dict), "an object", place) is None:
            return None
        for name, type_of_field in _types(kind).items():
            if name in value:
                values[name] = self.read(type_of_field, value[name], at(place, name))
            else:
                self.faults.append(f"{at(place, name)} is missing")
        if self._whole:
            self.faults += [f"{at(place, name)} is unknown" for name in value.keys() - _types(kind).keys()]
        if len(self.faults) > before:
            return None
        try:
            return kind(**values)
        except FastAdaSPError as error:
            self.faults.append(at(place, str(error)))
            return None

    def _one_of(self, kinds: tuple[Any, ...], value: Any, place: str) -> Any:
        if value is None and NoneType in kinds:
            return None
        kinds = tuple(kind for kind in kinds if kind is not NoneType)
        for kind in kinds[:-1]:
            attempt = _Reader(self._whole)
            found = attempt.read(kind, value, place)
            if not attempt.faults:
                return found
        return self.read(kinds[-1], value, place)

    def _tuple(self, kinds: tuple[Any, ...], value: Any, place: str) -> Any:
        if self._checked(value, isinstance(value, list), "a list", place) is None:
            return None
        if kinds[-1] is Ellipsis:
            kinds = kinds[:1] * len(value)
        elif len(value) != len(kinds):
            self.faults.append(f"{place} has {len(value)} entries, not {len(kinds)}")
            return None
        return tuple(
            self.read(kind, entry, f"{place}[{i}]")
            for i, (kind, entry) in enumerate(zip(kinds, value, strict=True))
        )

    def _mapping(self, kinds: tuple[Any, ...], value: Any, place: str) -> Any:
        if self._checked(value, isinstance(value, dict), "an object", place) is None:
            return None
        key_kind, kind = kinds
        return {
            self.read(key_kind, key, at(place, key)): self.read(kind, entry, at(place, key))
            for key, entry in value.items()
        }

    def _literal(self, known: tuple[Any, ...], value: Any, place: str) -> Any:
        return self._checked(value, value in known, " or ".join(map(repr, known)), place)

    def _checked(self, value: Any, is_right: bool, name: str, place: str) -> Any:
        if is_right:
            return value
        self.faults.append(f"{place or 'the file'} is {shown(value, SHOWN)}, not {name}")
        return None


_PARTS: dict[Any, Callable[[_Reader, tuple[Any, ...], Any, str], Any]] = {
    Union: _Reader._one_of,
    UnionType: _Reader._one_of,
    Literal: _Reader._literal,
    tuple: _Reader._tuple,
    Mapping: _Reader._mapping,
}
"""Kind of type -> what reads a value by its arguments."""


@cache
def _types(kind: Any) -> dict[str, Any]:
    """The types of a record's fields."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and _is_number(value)


def _is_share(value: Any) -> bool:
    """Whether it is a fraction as `to_json` writes one, in lowest terms."""
    return isinstance(value, str) and FRACTION.fullmatch(value) is not None and str(Fraction(value)) == value


_SCALARS: dict[Any, tuple[Callable[[Any], bool], str]] = {
    str: (lambda value: isinstance(value, str), "a text"),
    bool: (lambda value: isinstance(value, bool), "true or false"),
    int: (_is_whole, "a whole number"),
    float: (_is_number, "a number"),
    Fraction: (_is_share, "a share such as 3/10"),
}
"""Type -> whether a value is of it, and how people call it."""
