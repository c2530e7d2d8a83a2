"""Which files clips are read from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .clip import ClipSet
from .requests import Requests
from .transcripts import TRANSCRIPT


def files_of(found: ClipSet | Requests) -> Iterator[Path]:
    """The clip list, if there is one, the audio, and the transcripts beside it where those are read."""
    if found.source.is_file():
        yield found.source
    has_transcripts = isinstance(found, ClipSet) and found.source.is_dir()
    for clip in found.clips:
        yield clip.path
        if has_transcripts:
            yield clip.path.with_suffix(TRANSCRIPT)
