"""A request with its reference, and the clips of one task."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ...runtime.artifact.hashing import sha256


@dataclass(frozen=True)
class Clip:
    """One request and its reference; a clip that is not measured may have neither task nor references."""

    id: str
    line: int | None  # of the clip list; None in a folder of transcripts
    audio: str  # as the clip list writes it
    path: Path
    task: str
    references: tuple[str, ...]  # the accepted answers: one, or for caption and qa several
    prompt: str = ""
    language: str = ""


@dataclass(frozen=True)
class ClipSet:
    """The clips of one task, in the order of their source."""

    source: Path
    task: str
    clips: tuple[Clip, ...]

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages of the clips, sorted; an empty one where a clip names none."""
        return tuple(sorted({clip.language for clip in self.clips}))

    def digest(self) -> str:
        """Hash of all that answers and figures depend on: the content of the audio, references, prompts."""
        digest = hashlib.sha256()
        for clip in self.clips:
            fields = (clip.id, _content(clip.path), clip.task, clip.references, clip.prompt, clip.language)
            digest.update(json.dumps(fields).encode() + b"\n")
        return digest.hexdigest()


def recordings_of(clips: Iterable[Clip]) -> list[str]:
    """The audio file of each clip, under the first path that led there, whatever path or link others take."""
    first: dict[str, str] = {}
    return [first.setdefault(os.path.realpath(clip.path), str(clip.path)) for clip in clips]


def _content(path: Path) -> str:
    """The hash of a file. One that cannot be read is a failure of its clip, reported when its turn comes."""
    try:
        return sha256(path)
    except OSError as error:
        return f"unreadable: {error.strerror}"
