"""What a build is asked for; quick to import, so that the command line can show the defaults."""

from __future__ import annotations

from dataclasses import dataclass

from ..profiles.profile import Profile

PRECISIONS = ("fp32",)
WEIGHT_MODES = ("link", "copy")


@dataclass(frozen=True)
class BuildOptions:
    """What a build is asked for."""

    profiles: tuple[Profile, ...]
    weights: str = "link"
    precision: str = "fp32"
    force: bool = False
