"""JSON that somebody else wrote, read field by field: what is not as it should be is named with its place."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

Value = TypeVar("Value")
ABSENT = object()


class FieldError(ValueError):
    """A field that is missing or of another kind."""


@dataclass(frozen=True)
class Fields:
    """An object of a file, and where in the file it stands."""

    content: dict[str, Any]
    place: str = ""

    @classmethod
    def of(cls, value: Any, place: str = "") -> Fields:
        """Of an object, and nothing else."""
        return cls(_expect(value, _is_object, "an object", place or "the file"), place)

    def at(self, name: str) -> str:
        """The place of a field."""
        return f"{self.place}.{name}" if self.place else name

    def text(self, name: str) -> str:
        """A string."""
        value: str = self._get(name, _is_text, "a text")
        return value

    def number(self, name: str) -> float:
        """A finite number."""
        value: float = self._get(name, _is_number, "a number")
        return value

    def flag(self, name: str) -> bool:
        """True or false."""
        value: bool = self._get(name, lambda value: isinstance(value, bool), "true or false")
        return value

    def inner(self, name: str) -> Fields:
        """An object."""
        return Fields(self._get(name, _is_object, "an object"), self.at(name))

    def items(self, name: str) -> list[Any]:
        """A list of anything."""
        value: list[Any] = self._get(name, lambda value: isinstance(value, list), "a list")
        return value

    def each(self, name: str) -> Iterator[Fields]:
        """The objects of a list."""
        for i, value in enumerate(self.items(name)):
            yield Fields.of(value, f"{self.at(name)}[{i}]")

    def pair(self, name: str) -> tuple[Fields, Fields]:
        """A list of two objects."""
        found = tuple(self.each(name))
        if len(found) != 2:
            raise FieldError(f"{self.at(name)} has {len(found)} entries, not 2")
        return found[0], found[1]

    def numbers(self, name: str) -> tuple[float, ...]:
        """The numbers of a list."""
        place = self.at(name)
        return tuple(
            _expect(value, _is_number, "a number", f"{place}[{i}]")
            for i, value in enumerate(self.items(name))
        )

    def texts(self, name: str) -> tuple[str, ...]:
        """The strings of a list."""
        place = self.at(name)
        return tuple(
            _expect(value, _is_text, "a text", f"{place}[{i}]") for i, value in enumerate(self.items(name))
        )

    def maybe(self, read: Callable[[str], Value], name: str) -> Value | None:
        """A field that may be null or absent, such as `fields.maybe(fields.number, "prefill_ms")`."""
        return None if self.content.get(name) is None else read(name)

    def _get(self, name: str, is_right: Callable[[Any], bool], kind: str) -> Any:
        return _expect(self.content.get(name, ABSENT), is_right, kind, self.at(name))


def _expect(value: Any, is_right: Callable[[Any], bool], kind: str, place: str) -> Any:
    if value is ABSENT:
        raise FieldError(f"{place} is missing")
    if not is_right(value):
        raise FieldError(f"{place} is {_shown(value)}, not {kind}")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond what a float holds
        return False
