"""What the positions of the rows that are left mean, and which kind did better where both were measured."""

from __future__ import annotations

from collections.abc import Iterator

from ...profiles.keys import COMPACT, KEPT
from ...profiles.profile import Profile

MEANING = {COMPACT: "rows close up after a reduction", KEPT: "rows stay where they were"}
KEPT_IS_BETTER = "kept lost less on two models, on audio that they hear well: docs/accuracy.md"
NEITHER_IS = "now kept lost less on two models, now compact: docs/accuracy.md"


def positions_lines(profile: Profile) -> Iterator[str]:
    """What a profile's positions mean and, where there is a choice, how both did; none without reduction."""
    if (kind := profile.row_positions) is None:
        return
    yield f"positions {kind}: {MEANING[kind]}"
    if not profile.traits.is_of_caches:
        yield NEITHER_IS if profile.schedule in profile.traits.mixed_positions else KEPT_IS_BETTER
