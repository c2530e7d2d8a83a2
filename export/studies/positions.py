"""What the positions of the rows that are left mean, and which kind did better where both were measured."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from importlib.resources import files

from ...profiles.keys import COMPACT, KEPT
from ...profiles.profile import Profile

MEANING = {COMPACT: "rows close up after a reduction", KEPT: "rows stay where they were"}
MEASURED = "positions.toml"  # by title of the method, schedule and length; bench/reductions.py writes it


def positions_lines(profile: Profile) -> Iterator[str]:
    """What a profile's positions mean and, where there is a choice, how both did; none without reduction."""
    if (kind := profile.row_positions) is None:
        return
    yield f"positions {kind}: {MEANING[kind]}"
    if not profile.traits.is_of_caches:
        measured = tomllib.loads(files(__package__).joinpath(MEASURED).read_text("utf-8"))
        yield from _advice(measured[profile.traits.title][profile.schedule])


def _advice(found: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """In how many comparisons each kind lost less by a 95 % interval, by the length of the clips."""
    kept = (f"{each['kept']} of {each['compared']} at {length}" for length, each in found.items())
    compact = (str(each["compact"]) for each in found.values())
    yield "comparisons on audio of which the full model has most words right:"
    yield f"kept won {', '.join(kept)};"
    yield f"compact won {', '.join(compact)}; on other audio either may be better: docs/accuracy.md"
