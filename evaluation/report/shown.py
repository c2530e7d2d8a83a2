"""Settings and counts of result files as people read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

LISTED = 12  # entries of a list that are shown
DEEPEST = 4  # objects within objects that are shown


def facts(content: Mapping[str, Any], prefix: str = "", depth: int = DEEPEST) -> Iterator[tuple[str, str]]:
    """The entries of an object as names and text; those of inner objects as `outer.inner`."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            if depth:
                yield from facts(value, f"{prefix}{name}.", depth - 1)
        elif value is not None and value not in ("", []):
            yield f"{prefix}{name}".replace("_", " "), fact(value)


def fact(value: Any) -> str:
    """One value."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return "…"
    if isinstance(value, list):
        more = f" and {len(value) - LISTED} more" if len(value) > LISTED else ""
        return ", ".join("…" if isinstance(one, list) else fact(one) for one in value[:LISTED]) + more
    return str(value)


def toml_facts(profile: str) -> tuple[tuple[str, str], ...]:
    """The lines of a profile."""
    lines = (line.partition("=") for line in profile.splitlines())
    return tuple((name.strip(), value.strip()) for name, sign, value in lines if sign)
