"""What the positions of the rows that are left mean, and which kind did better where both were measured."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from importlib.resources import files

from ...profiles.keys import COMPACT, KEPT
from ...profiles.profile import Profile

MEANING = {COMPACT: "rows close up after a reduction", KEPT: "rows stay where they were"}
MEASURED = "positions.toml"  # by title of the method and schedule; bench/reductions.py writes it


def positions_lines(profile: Profile) -> Iterator[str]:
    """What a profile's positions mean and, where there is a choice, how both did; none without reduction."""
    if (kind := profile.row_positions) is None:
        return
    yield f"positions {kind}: {MEANING[kind]}"
    if not profile.traits.is_of_caches:
        measured = tomllib.loads(files(__package__).joinpath(MEASURED).read_text("utf-8"))
        yield advice(**measured[profile.traits.title][profile.schedule])


def advice(kept: int, compact: int, compared: int) -> str:
    """In how many comparisons each kind lost less, by intervals that exclude chance."""
    return f"kept lost less in {kept} of {compared} comparisons, compact in {compact}: docs/accuracy.md"
