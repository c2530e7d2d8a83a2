"""A journal of answered clips beside the output: a run that was killed goes on where it was.

The first line holds the settings that an answer depends on; each further line is one clip. A line is on the
disk before the next clip is waited for, a torn last line is dropped, and settings that differ are refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from ...profiles.errors import JournalError, OutputError
from ...profiles.json_text import read_object
from .answers import ClipAnswers
from .lines import append_lines, whole_lines
from .lock import lock

JOURNAL_FORMAT = 6
KIND = "eval journal"
RESTART = "go on with those, or start again with --restart"


def journal_of(output: Path) -> Path:
    """Where the journal of an output stands."""
    return output.with_name(f"{output.name}.journal.jsonl")


class Journal:
    """An open journal; `answered` holds what it had when it was opened, by the id of the clip."""

    def __init__(self, stream: FileIO, path: Path, settings: Mapping[str, Any]) -> None:
        self._stream, self._place = stream, f"journal {path}"
        self._header = {"format_version": JOURNAL_FORMAT, "kind": KIND, "settings": settings}
        self.answered = _answers(path, whole_lines(stream), settings)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was written yet, not even the settings."""
        return not self._stream.seek(0, os.SEEK_END)

    def append(self, answers: ClipAnswers) -> None:
        """Add a clip, and see it on the disk.

        Raises:
            OutputError: the disk is full, or the like.
        """
        if self.is_empty:
            append_lines(self._stream, self._place, self._header)
        append_lines(self._stream, self._place, answers.to_json())


@contextmanager
def open_journal(path: Path, settings: Mapping[str, Any], *, restart: bool = False) -> Iterator[Journal]:
    """Open a journal or begin one. Without a first answer, none is left behind.

    Args:
        path: the file.
        settings: all that an answer depends on, as JSON takes it.
        restart: forget what the journal holds.

    Raises:
        JournalError: it is of other settings, damaged, or in use by another run.
        OutputError: it cannot be written.
    """
    try:
        stream = path.open("a+b", buffering=0)
    except OSError as error:
        raise OutputError(f"journal {path}: {error.strerror}; choose another output") from None
    with stream:
        lock(stream, path)
        if restart:
            stream.truncate(0)
        journal = Journal(stream, path, settings)
        try:
            yield journal
        finally:
            if journal.is_empty:
                path.unlink(missing_ok=True)


def _answers(path: Path, lines: Iterable[bytes], settings: Mapping[str, Any]) -> dict[str, ClipAnswers]:
    """The clips of a journal. One that stands there twice counts once."""
    found: dict[str, ClipAnswers] = {}
    for i, line in enumerate(lines, 1):
        try:
            content = read_object(line, lenient=True)  # it may hold names that are not UTF-8
            if i == 1:
                _check_settings(path, content, settings)
            else:
                answers = ClipAnswers.from_json(content)
                found.setdefault(answers.clip_id, answers)
        except JournalError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError):
            raise JournalError(f"journal {path}: line {i} is damaged; start again with --restart") from None
    return found


def _check_settings(path: Path, header: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    if (header["format_version"], header["kind"]) != (JOURNAL_FORMAT, KIND):
        raise JournalError(f"journal {path} is none of this version; start again with --restart")
    then, now = header["settings"], json.loads(json.dumps(settings))
    if differ := [name for name in sorted(then.keys() | now.keys()) if then.get(name) != now.get(name)]:
        raise JournalError(f"journal {path} was begun with other settings: {', '.join(differ)}; {RESTART}")
