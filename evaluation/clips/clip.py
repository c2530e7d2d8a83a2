"""A request with its reference, and the clips of one task."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
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

    @cached_property
    def recordings(self) -> tuple[str, ...]:
        """The recording that each clip is of: the hash of its audio, under whatever name that is kept."""
        contents: dict[Path, str] = {}
        for clip in self.clips:
            if clip.path not in contents:
                contents[clip.path] = _content(clip)
        return tuple(contents[clip.path] for clip in self.clips)

    def digest(self) -> str:
        """Hash of all that answers and figures depend on: the content of the audio, references, prompts."""
        digest = hashlib.sha256()
        for clip, recording in zip(self.clips, self.recordings, strict=True):
            fields = (clip.id, recording, clip.task, clip.references, clip.prompt, clip.language)
            digest.update(json.dumps(fields).encode() + b"\n")
        return digest.hexdigest()


def _content(clip: Clip) -> str:
    """The hash of its file. One that cannot be read is a failure of its clip, told when its turn comes."""
    try:
        return sha256(clip.path)
    except OSError as error:
        return f"unreadable: {clip.audio}: {error.strerror}"
