"""Clips that are only to be answered: a clip list without references, a folder of audio, or one file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ...profiles.errors import ClipsError
from ...profiles.faults import path_of
from .clip import Clip
from .jsonl import BYTE_ORDER_MARK, read_lines, refuse_root
from .transcripts import name_fault

SOUND = (
    *(".wav", ".w64", ".rf64", ".flac", ".ogg", ".oga", ".opus", ".spx", ".mp3", ".mp2", ".aif", ".aiff"),
    *(".aifc", ".caf", ".au", ".snd", ".sph", ".webm", ".mka", ".mkv", ".m4a", ".mp4", ".mov", ".3gp"),
    *(".wma", ".amr", ".awb", ".aac"),
)
"""Endings of the files of a folder that are taken for audio; what is in one is told by its first bytes."""
LIST_SUFFIX, LIST_START = ".jsonl", b"{"


@dataclass(frozen=True)
class Requests:
    """Clips to be answered, in the order of their source."""

    source: Path
    audio_root: Path  # the folder that their `audio` begins at
    clips: tuple[Clip, ...]


def read_requests(
    source: str | os.PathLike[str],
    *,
    audio_root: str | os.PathLike[str] | None = None,
    prompt: str | None = None,
) -> Requests:
    """Read what is to be answered.

    Args:
        source: a clip list (a name that ends with .jsonl, or content that begins with an object); a folder,
            all audio below which is meant, sorted by path; or one file of audio.
        audio_root: the folder that the audio paths of a clip list start from, if not its own.
        prompt: text of the requests that have none of their own.

    Raises:
        ClipsError: with every fault of the source. Audio that cannot be read is none: its clip will fail.
    """
    remedy = "a clip list in JSONL, a folder of audio, or a file of audio"
    source = path_of("clips", source, remedy, ClipsError)
    root = None if audio_root is None else path_of("audio_root", audio_root, "a folder", ClipsError)
    try:
        found = _read(source, root)
    except OSError as error:
        place, why = source if error.filename is None else error.filename, error.strerror
        raise ClipsError(f"clips: {place} cannot be read ({why}); give {remedy}") from error
    mine = (replace(clip, prompt=clip.prompt or prompt or "") for clip in found.clips)
    return replace(found, clips=tuple(mine))


def _read(source: Path, audio_root: Path | None) -> Requests:
    if source.is_file() and _is_list(source):
        root = audio_root or source.parent
        return Requests(source, root, tuple(read_lines(source, root, None, references=False)))
    refuse_root(source, audio_root)
    if source.is_dir():
        return Requests(source, source, tuple(_in_folder(source)))
    source.stat()  # tells why it cannot be read
    if fault := name_fault(source.name):
        raise ClipsError(f"clips: {fault}")
    return Requests(source, source.parent, (_clip(source.parent, source),))


def _is_list(source: Path) -> bool:
    if source.suffix.lower() == LIST_SUFFIX:
        return True
    with source.open("rb") as stream:
        return stream.read(64).removeprefix(BYTE_ORDER_MARK).lstrip().startswith(LIST_START)


def _in_folder(folder: Path) -> Iterator[Clip]:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SOUND and path.is_file())
    names = (str(path.relative_to(folder)) for path in files)
    if faults := [fault for fault in map(name_fault, names) if fault is not None]:
        raise ClipsError(f"folder {folder}: {len(faults)} faulty file{'s' * (len(faults) > 1)}", faults)
    if not files:
        raise ClipsError(f"folder {folder} holds no audio: give files of {', '.join(SOUND)}")
    yield from (_clip(folder, path) for path in files)


def _clip(folder: Path, path: Path) -> Clip:
    name = path.relative_to(folder).as_posix()
    return Clip(name, None, name, path, task="", references=())
