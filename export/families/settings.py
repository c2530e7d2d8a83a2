"""Reading config.json with the defaults of the library that wrote it, and refusing what is not supported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...profiles.errors import CheckpointError


class Settings:
    """One section of a config, with defaults for the keys that its writer left out."""

    def __init__(self, place: str, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        self.place, self.values = place, {**defaults, **values}

    def count(self, key: str) -> int:
        """A whole number above 0."""
        value = self.values.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise CheckpointError(f"{self.place}: {key} is {value!r}, a whole number above 0 is expected")
        return value

    def number(self, key: str) -> float:
        """A number above 0."""
        value = self.values.get(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
            raise CheckpointError(f"{self.place}: {key} is {value!r}, a number above 0 is expected")
        return float(value)

    def require(self, **supported: Any) -> None:
        """Refuse every setting that is there with another value; all of them in one message."""
        faults = [
            f"{key} {self.values[key]!r} is not supported (only {wanted!r})"
            for key, wanted in supported.items()
            if key in self.values and self.values[key] != wanted
        ]
        if faults:
            raise CheckpointError(f"{self.place}: {'; '.join(faults)}")


def eos_ids(*sections: Mapping[str, Any]) -> tuple[int, ...]:
    """The end-of-sequence ids of the first section that has some."""
    for section in sections:
        found = section.get("eos_token_id")
        if found is not None:
            return tuple(found) if isinstance(found, list) else (int(found),)
    return ()
