"""JSON that others may have written, read within limits: what comes out is shallow, finite and plain text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, NoReturn

from .errors import FastAdaSPError
from .faults import at, is_unicode, shown

MAX_DEPTH = 100  # of lists and objects in each other; files of ours and of checkpoints have fewer than ten
MOST_DIGITS = 1000  # of a number; those of more take time that grows with their square


class JsonError(FastAdaSPError, ValueError):
    """Text that is no JSON, or JSON that no program of ours writes. The place and the remedy go around it."""


def read_json(text: str | bytes, *, lenient: bool = False) -> Any:
    """What a JSON text holds.

    Args:
        text: the JSON; bytes are UTF-8.
        lenient: what Python's own reader takes beyond JSON passes, because Python wrote the file, or others
            read it: NaN and infinities, names that stand twice in an object (the last one counts), and half
            surrogate pairs, as names of files have them that are not UTF-8.

    Raises:
        JsonError: no JSON, more than `MAX_DEPTH` levels, a number of more than `MOST_DIGITS` digits; and,
            unless it is `lenient`, what passes there and numbers that no float holds.
    """
    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        content = _LENIENT.decode(text) if lenient else _STRICT.decode(text)
    except UnicodeDecodeError as error:
        raise JsonError(f"is no text: byte {error.start + 1} is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise JsonError(f"is no JSON: {error.msg} at {_position(error)}") from None
    except RecursionError:
        raise JsonError(f"is nested deeper than {MAX_DEPTH} levels") from None
    if _is_deeper(content, MAX_DEPTH):
        raise JsonError(f"is nested deeper than {MAX_DEPTH} levels")
    if not lenient and (place := next(_half_characters(content), None)) is not None:
        raise JsonError(f"{place}holds half of a surrogate pair, which is no character")
    return content


def read_object(text: str | bytes, *, lenient: bool = False) -> dict[str, Any]:
    """As `read_json`, of a text that must hold an object.

    Raises:
        JsonError: it holds something else.
    """
    content = read_json(text, lenient=lenient)
    if not isinstance(content, dict):
        raise JsonError(f"is {shown(content, 40)}, not an object")
    return content


def _position(error: json.JSONDecodeError) -> str:
    line = f"line {error.lineno}, " if error.lineno > 1 else ""
    return f"{line}column {error.colno}"


def _whole(digits: str) -> int:
    return int(_short(digits))


def _number(digits: str) -> float:
    return float(_short(digits))


def _finite(digits: str) -> float:
    if abs(number := _number(digits)) == float("inf"):
        raise JsonError(f"holds {digits[:40]}, which is larger than any number")
    return number


def _short(digits: str) -> str:
    if len(digits) > MOST_DIGITS:
        raise JsonError(f"holds a number of {len(digits)} digits; {MOST_DIGITS} are the most")
    return digits


def _refuse(constant: str) -> NoReturn:
    raise JsonError(f"holds {constant}, which JSON does not know")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise JsonError(f"has {shown(name, 40)} twice in one object")
    return found


_LENIENT = json.JSONDecoder(parse_int=_whole, parse_float=_number)
_STRICT = json.JSONDecoder(
    parse_int=_whole, parse_float=_finite, parse_constant=_refuse, object_pairs_hook=_unique
)


def _is_deeper(content: object, levels: int) -> bool:
    """Whether lists and objects are nested in more levels."""
    level = [content]
    for _ in range(levels):
        level = [
            item
            for each in level
            for item in (each.values() if isinstance(each, dict) else each if isinstance(each, list) else ())
            if isinstance(item, dict | list)
        ]
        if not level:
            return False
    return True


def _half_characters(content: object, place: str = "") -> Iterator[str]:
    """Where a text has no encoding, in words; of the name of a field, where its object stands."""
    if isinstance(content, str):
        if not is_unicode(content):
            yield f"{place} " if place else ""
    elif isinstance(content, list):
        for i, item in enumerate(content):
            yield from _half_characters(item, f"{place}[{i}]")
    elif isinstance(content, dict):
        for name, item in content.items():
            yield from _half_characters(name, place)
            yield from _half_characters(item, at(place, name))
