"""The clips to measure on: requests with references, from a JSONL manifest or a folder of transcripts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...profiles.errors import ClipsError
from ...runtime.hashing import sha256


@dataclass(frozen=True)
class Clip:
    """One request and its reference."""

    id: str
    line: int | None  # of the manifest; None in a folder of transcripts
    audio: str  # as the manifest writes it
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
        """The languages that clips name, sorted."""
        return tuple(sorted({clip.language for clip in self.clips} - {""}))

    def digest(self) -> str:
        """Hash of all that answers and figures depend on: the content of the audio, references, prompts."""
        digest = hashlib.sha256()
        for clip in self.clips:
            fields = (clip.id, _content(clip.path), clip.task, clip.references, clip.prompt, clip.language)
            digest.update(json.dumps(fields).encode() + b"\n")
        return digest.hexdigest()


def read_clips(
    source: Path, task: str | None = None, *, audio_root: Path | None = None, prompt: str = ""
) -> ClipSet:
    """Read the clips of one task.

    Args:
        source: a JSONL manifest, or a folder of audio files with transcripts of the same name (`asr`).
        task: one of `TASKS`; may be None where all clips are of one.
        audio_root: the folder that audio paths start from, if not that of the manifest.
        prompt: text of the requests that have none of their own.

    Raises:
        ClipsError: with every fault of the source.
    """
    from .manifest_lines import read_lines
    from .transcripts import read_transcripts

    if source.is_dir():
        clips = read_transcripts(source)
    elif source.is_file():
        clips = read_lines(source, audio_root or source.parent, task)
    else:
        raise ClipsError(
            f"manifest {source} is no file and no folder: give JSONL, or a folder of transcripts"
        )
    chosen = _chosen(source, clips, task)
    mine = (replace(clip, prompt=clip.prompt or prompt) for clip in clips if clip.task == chosen)
    return ClipSet(source, chosen, tuple(mine))


def _chosen(source: Path, clips: Sequence[Clip], task: str | None) -> str:
    """The task that is measured."""
    present = tuple(dict.fromkeys(clip.task for clip in clips))
    if task is None and len(present) > 1:
        raise ClipsError(f"manifest {source} holds clips of {', '.join(present)}: choose one with --task")
    if task is not None and task not in present:
        raise ClipsError(f"manifest {source} holds no clip of {task}, but of {', '.join(present)}")
    return task or present[0]


def _content(path: Path) -> str:
    """The hash of a file. One that cannot be read is a failure of its clip, told when its turn comes."""
    try:
        return sha256(path)
    except OSError as error:
        return f"unreadable: {error.strerror}"
