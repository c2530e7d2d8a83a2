"""The clips in two halves: one to search on, and one that is held out to judge what the search has found."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from ....evaluation.clips.clip import ClipSet
from ....profiles.errors import ClipsError


@dataclass(frozen=True)
class Halves:
    """Both in the order of the clip list. No recording is in both."""

    search: ClipSet
    held_out: ClipSet


def halves_of(clips: ClipSet, seed: int) -> Halves:
    """Draw half of the recordings to be held out, rounded down; their clips go with them.

    Raises:
        ClipsError: there is one recording.
    """
    first: dict[str, str] = {}  # of each recording, the first path that is given for it
    pairs = zip(clips.clips, clips.recordings, strict=True)
    of = [first.setdefault(recording, str(clip.path)) for clip, recording in pairs]
    files = sorted(first.values())
    if len(files) < 2:
        raise ClipsError(f"clip list {clips.source}: one recording has no halves; give clips of several")
    drawn = set(random.Random(seed).sample(files, len(files) // 2))
    held_out = tuple(clip for clip, file in zip(clips.clips, of, strict=True) if file in drawn)
    search = tuple(clip for clip, file in zip(clips.clips, of, strict=True) if file not in drawn)
    return Halves(replace(clips, clips=search), replace(clips, clips=held_out))
