"""A clip list as JSONL, one clip per line: every fault of every line is reported before any work is done."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from ...profiles.errors import ClipsError
from ...profiles.json_text import JsonError, read_object
from ..metrics.tasks import TASKS
from .clip import Clip

KEYS = ("audio", "text", "label", "task", "id", "language", "prompt")
MAY_BE_EMPTY = ("language", "prompt")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
SNIFFED = 1024  # bytes that tell audio, or UTF-16, from a text

Entry = Mapping[str, Any]
Numbered = tuple[int, str]


def read_lines(source: Path, audio_root: Path, task: str | None, *, references: bool = True) -> list[Clip]:
    """Every clip of a clip list; `task` is that of the lines that name none.

    Without `references` the answers are not measured: a line may lack its task and what is said, and audio
    that is not there is a failure of its clip.

    Raises:
        ClipsError: with every fault and its line.
    """
    lines = list(_numbered(source))
    entries = [(i, entry) for i, entry in lines if isinstance(entry, dict)]
    faults: list[Numbered] = [(i, entry) for i, entry in lines if isinstance(entry, str)]
    for i, entry in entries:
        found = _key_faults(entry, task, references), _audio_faults(entry, audio_root, references)
        faults += [(i, fault) for fault in chain(*found)]
    ids = _ids(entries, task)
    faults += _repeated(ids)
    if faults:
        raise _error(source, faults)
    if not entries:
        raise ClipsError(f"clip list {source} is empty: write each clip as one JSON object on a line")
    return [_clip(i, entry, ids[i], audio_root, task) for i, entry in entries]


def refuse_root(source: Path, audio_root: Path | None) -> None:
    """Refuse a folder that audio paths start from beside a source that holds none; ClipsError."""
    if audio_root is not None:
        raise ClipsError(f"audio_root {audio_root} is for a clip list; {source} is none, so leave it out")


def _numbered(source: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Each line that is not blank: its number, and the object or what is wrong with it."""
    content = source.read_bytes().removeprefix(BYTE_ORDER_MARK)
    if b"\0" in content[:SNIFFED]:
        raise ClipsError(f"clip list {source} is no text in UTF-8: give JSONL in UTF-8, or a folder")
    for i, raw in enumerate(content.split(b"\n"), 1):
        if raw.strip():
            yield i, _parsed(raw)


def _parsed(raw: bytes) -> dict[str, Any] | str:
    try:
        return read_object(raw)
    except JsonError as error:
        return f"{error}; write the keys of a clip as one JSON object, in UTF-8"


def _key_faults(entry: Entry, default_task: str | None, references: bool) -> Iterator[str]:
    if unknown := [key for key in entry if key not in KEYS]:
        yield f"key {', '.join(map(repr, unknown))} is unknown; known: {', '.join(KEYS)}"
    name = entry.get("task", default_task)
    task = TASKS.get(name) if isinstance(name, str) else None
    if name is None and references:
        yield f"no task; give one of {', '.join(TASKS)}, here or for all lines with --task"
    elif name is not None and task is None:
        yield f"task {name!r} is unknown; give one of {', '.join(TASKS)}"
    if "audio" not in entry:
        yield "no audio; give the path of a file"
    if references and task is not None and task.reference not in entry:
        yield f"no {task.reference}, which {name} is measured against"
    for key in entry.keys() & set(KEYS) - {"task"}:
        many = key == "text" and (task is None or task.several_references)
        yield from _value_faults(key, entry[key], many=many)


def _value_faults(key: str, value: object, *, many: bool) -> Iterator[str]:
    """What is wrong with a value that must be a text, or where `many` a list of texts."""
    given = value if many and isinstance(value, list) else [value]
    texts = [text for text in given if isinstance(text, str)]
    if not texts or len(texts) < len(given):
        yield f"{key} is {_shown(value)}; give a text{' or a list of texts' * many}"
    elif key not in MAY_BE_EMPTY and not all(text.strip() for text in texts):
        yield f"{key} is empty"


def _audio_faults(entry: Entry, audio_root: Path, must_exist: bool) -> Iterator[str]:
    audio = entry.get("audio")
    if not isinstance(audio, str) or not audio.strip():
        return  # reported already
    if Path(audio).is_absolute():
        if not Path(os.path.normpath(audio)).is_relative_to(os.path.normpath(Path.cwd() / audio_root)):
            yield (
                f"audio {audio} leaves the folder {audio_root}; name a file inside it, or give "
                f"--audio-root {Path(audio).anchor} or another folder that holds all of the audio"
            )
            return
    elif Path(os.path.normpath(audio)).parts[:1] == (os.pardir,):
        yield (
            f"audio {audio} leaves the folder {audio_root}; name a file inside it, without .. at the start; "
            "--audio-root is where paths begin, if not at the clip list"
        )
        return
    if must_exist and not _is_file(audio_root / audio):
        yield f"audio {audio} is not in {audio_root.absolute()}"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def _ids(entries: list[tuple[int, dict[str, Any]]], default_task: str | None) -> dict[int, str]:
    """Line -> id. Without one of its own, a clip has its audio's, and its task where tasks share that."""
    tasks: dict[str, set[str]] = {}
    for _, entry in entries:
        tasks.setdefault(str(entry.get("audio")), set()).add(str(entry.get("task", default_task)))

    def default(entry: Entry) -> str:
        audio = str(entry.get("audio"))
        return f"{audio}#{entry.get('task', default_task)}" if len(tasks[audio]) > 1 else audio

    return {i: str(entry.get("id", default(entry))) for i, entry in entries if {"audio", "id"} & entry.keys()}


def _repeated(ids: Mapping[int, str]) -> Iterator[Numbered]:
    first: dict[str, int] = {}
    for i, name in ids.items():
        if name in first:
            yield i, f"id {name} is that of line {first[name]}, too; give each an id of its own"
        first.setdefault(name, i)


def _clip(line: int, entry: Entry, name: str, audio_root: Path, default_task: str | None) -> Clip:
    task = entry.get("task", default_task) or ""
    reference = entry.get(TASKS[task].reference, ()) if task else ()
    return Clip(
        id=name,
        line=line,
        audio=entry["audio"],
        path=audio_root / entry["audio"],
        task=task,
        references=(reference,) if isinstance(reference, str) else tuple(reference),
        prompt=entry.get("prompt", ""),
        language=entry.get("language", ""),
    )


def _error(source: Path, faults: list[Numbered]) -> ClipsError:
    lines = len({i for i, _ in faults})
    summary = f"clip list {source}: {lines} faulty line{'s' * (lines > 1)}; nothing was run"
    return ClipsError(summary, [f"line {i}: {fault}" for i, fault in sorted(faults)])


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) < 40 else f"{text[:36]} …"
