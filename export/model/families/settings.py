"""Reading config.json with the defaults of the library that wrote it, and refusing what is not supported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....profiles.errors import CheckpointError

LIMIT = 2**31  # of a count


class Settings:
    """One section of a config, with defaults for the keys that its writer left out."""

    def __init__(self, place: str, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        if not isinstance(values, Mapping):
            raise CheckpointError(f"{place} is {values!r}, a JSON object is expected")
        self.place, self.values = place, {**defaults, **values}

    def count(self, key: str) -> int:
        """A whole number above 0."""
        value = self.values.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < LIMIT:
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


def eos_ids(place: str, *sections: Mapping[str, Any]) -> tuple[int, ...]:
    """The end-of-sequence ids of the first section that has some."""
    given = (section.get("eos_token_id") for section in sections)
    found: Any = next((value for value in given if value is not None), [])
    ids = found if isinstance(found, list) else [found]
    if faults := [token for token in ids if type(token) is not int or token < 0]:
        raise CheckpointError(f"{place}: eos_token_id is {faults[0]!r}, a token id of at least 0 is expected")
    return tuple(ids)
