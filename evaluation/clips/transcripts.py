"""A folder of audio files with transcripts of the same name: clips of `asr` without a clip list."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ...profiles.errors import ClipsError
from ...profiles.faults import is_unicode
from .clip import Clip

AUDIO = (".wav", ".flac", ".ogg", ".mp3")
TRANSCRIPT = ".txt"


def read_transcripts(folder: Path) -> list[Clip]:
    """Every audio file below a folder with its transcript, sorted by path.

    Raises:
        ClipsError: with every file that lacks its other half, and every transcript without text.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    audio = [path for path in files if path.suffix.lower() in AUDIO]
    if faults := list(_faults(folder, files, audio)):
        summary = f"folder {folder}: {len(faults)} faulty file{'s' * (len(faults) > 1)}"
        raise ClipsError(summary + _instead(folder), faults)
    if not audio:
        raise ClipsError(
            f"folder {folder} holds no audio: give files of {', '.join(AUDIO)} with {TRANSCRIPT}"
        )
    return [_clip(folder, path) for path in audio]


def _instead(folder: Path) -> str:
    """Where one clip list lies in the folder, that is more likely meant."""
    lists = list(folder.glob("*.jsonl"))
    return f"; the clip list there is {lists[0]}" if len(lists) == 1 else ""


def _faults(folder: Path, files: list[Path], audio: list[Path]) -> Iterator[str]:
    stems: dict[Path, Path] = {}
    for path in audio:
        name, transcript = path.relative_to(folder), path.with_suffix(TRANSCRIPT)
        twin = stems.setdefault(path.with_suffix(""), path)
        if (fault := name_fault(str(name))) is not None:
            yield fault
        elif twin != path:
            yield f"{name}: shares its transcript with {twin.name}; keep one of them"
        elif not transcript.is_file():
            yield f"{name}: no transcript {transcript.name} beside it"
        elif (fault := _text_fault(transcript)) is not None:
            yield f"{transcript.relative_to(folder)}: {fault}"
    for path in files:
        if path.suffix == TRANSCRIPT and path.with_suffix("") not in stems:
            yield f"{path.relative_to(folder)}: no audio of this name beside it"


def name_fault(name: str) -> str | None:
    """What is wrong with a name that no result file could hold, for it is no text."""
    if is_unicode(name):
        return None
    return f"{os.fsencode(name).decode('utf-8', 'backslashreplace')}: its name is not UTF-8; rename it"


def _text_fault(transcript: Path) -> str | None:
    try:
        return None if _text(transcript) else "is empty"
    except UnicodeDecodeError:
        return "is not UTF-8"


def _text(transcript: Path) -> str:
    return transcript.read_text("utf-8-sig").strip()


def _clip(folder: Path, path: Path) -> Clip:
    name = path.relative_to(folder).as_posix()
    return Clip(name, None, name, path, "asr", (_text(path.with_suffix(TRANSCRIPT)),))
