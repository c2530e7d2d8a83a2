"""Clips from a JSONL list or a folder of transcripts, of one task."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...profiles.errors import ClipsError
from ...profiles.faults import path_of, shown, text_fault
from ..metrics.tasks import TASKS
from .clip import Clip, ClipSet
from .jsonl import read_lines, refuse_root
from .transcripts import read_transcripts


def read_clips(
    source: str | os.PathLike[str],
    task: str | None = None,
    *,
    audio_root: str | os.PathLike[str] | None = None,
    prompt: str = "",
) -> ClipSet:
    """Read the clips of one task.

    Args:
        source: a clip list in JSONL, or a folder of audio files with transcripts of the same name (`asr`).
        task: one of `TASKS`; may be None where all clips are of one.
        audio_root: the folder that audio paths start from, if not that of the clip list.
        prompt: text of the requests that have none of their own.

    Raises:
        ClipsError: with every fault of the source.
    """
    source = _source(source)
    root = None if audio_root is None else path_of("audio_root", audio_root, "a folder", ClipsError)
    if task is not None and not isinstance(task, str):
        raise ClipsError(f"task is {shown(task)}: give one of {', '.join(TASKS)}")
    if faults := list(text_fault("prompt", prompt)):
        raise ClipsError("; ".join(faults))
    clips = _clips(source, root, task)
    chosen = _chosen(source, clips, task)
    mine = (replace(clip, prompt=clip.prompt or prompt) for clip in clips if clip.task == chosen)
    return ClipSet(source, chosen, tuple(mine))


def read_clips_of_any_task(
    source: str | os.PathLike[str], audio_root: str | os.PathLike[str] | None = None
) -> tuple[Clip, ...]:
    """Read all clips, whatever is asked about each; `audio_root` as in `read_clips`.

    Raises:
        ClipsError: with every fault of the source.
    """
    source = _source(source)
    root = None if audio_root is None else path_of("audio_root", audio_root, "a folder", ClipsError)
    return tuple(_clips(source, root, None))


def _source(given: str | os.PathLike[str]) -> Path:
    return path_of("manifest", given, "a path: JSONL, or a folder of transcripts", ClipsError)


def _clips(source: Path, audio_root: Path | None, task: str | None) -> list[Clip]:
    try:
        return _read(source, audio_root, task)
    except OSError as error:
        place, why = source if error.filename is None else error.filename, error.strerror
        raise ClipsError(
            f"clip list: {place} cannot be read ({why}): check the path, its permissions and the disk"
        ) from error


def _read(source: Path, audio_root: Path | None, task: str | None) -> list[Clip]:
    if source.is_dir():
        refuse_root(source, audio_root)
        return read_transcripts(source)
    if source.is_file():
        return read_lines(source, audio_root or source.parent, task)
    raise ClipsError(f"clip list {source} is no file and no folder: give JSONL, or a folder of transcripts")


def _chosen(source: Path, clips: Sequence[Clip], task: str | None) -> str:
    """The task that is measured."""
    present = tuple(dict.fromkeys(clip.task for clip in clips))
    if task is None and len(present) > 1:
        raise ClipsError(f"clip list {source} holds clips of {', '.join(present)}: choose one with --task")
    if task is not None and task not in present:
        raise ClipsError(f"clip list {source} holds no clip of {task}, but of {', '.join(present)}")
    return task or present[0]
