"""The files of a bulk transcription: answers, failures, and the settings that both were made with.

A line is on the disk before the next one is waited for, and a torn last line is cut off, so a run that was
killed goes on where it was. The settings stand beside the answers, which so hold nothing but clips.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from ...profiles.errors import ClipsError, JournalError, OutputError
from ...profiles.faults import shown
from ...profiles.json_text import JsonError, read_object
from ..answers.lines import append_lines, whole_lines
from ..answers.lock import lock
from ..clips.clip import Clip
from .records import Failed, Found

FORMAT, KIND = 1, "transcribe settings"
RESTART = "give another output, or --restart to forget this one"
SHOWN = 200  # characters of a value in a message

Asked = tuple[str, str]
"""Audio and prompt of a clip."""


@dataclass(frozen=True)
class Start:
    """What becomes of the files of an earlier run."""

    retry_failed: bool = False  # forget the failures of the clips that are given
    restart: bool = False  # forget all


def failures_of(output: Path) -> Path:
    """Where the clips without an answer stand."""
    return output.with_name(f"{output.name}.failed.jsonl")


def settings_of(output: Path) -> Path:
    """Where the settings of an output stand."""
    return output.with_name(f"{output.name}.settings.json")


class Output:
    """Open files; `answered` and `failed` hold the clips that were there when they were opened, by id."""

    def __init__(self, path: Path, answers: FileIO, failures: FileIO, *, retry_failed: bool) -> None:
        self._path, self._answers, self._failures = path, answers, failures
        self._retries = retry_failed
        self.answered = _clips(path, answers)
        failed = _clips(failures_of(path), failures)
        self.failed = {} if retry_failed else failed

    def begin(self, clips: Sequence[Clip]) -> list[Clip]:
        """The clips that have neither answer nor failure. Failures that are tried again are forgotten now.

        Raises:
            ClipsError: with every clip that has one to another audio or prompt.
        """
        done = {**self.failed, **self.answered}
        faults = [
            f"{clip.id}: there it has {_asked(done[clip.id])}, now {_asked((clip.audio, clip.prompt))}"
            for clip in clips
            if done.get(clip.id, (clip.audio, clip.prompt)) != (clip.audio, clip.prompt)
        ]
        if faults:
            differ = f"{len(faults)} clip{'s differ' if len(faults) > 1 else ' differs'}"
            raise ClipsError(
                f"output {self._path}: {differ} from what it has of that id; give such clips ids of their "
                "own, or another output",
                faults,
            )
        if self._retries:
            self._forget_failures({clip.id for clip in clips})
        return [clip for clip in clips if clip.id not in done]

    def _forget_failures(self, ids: Set[str]) -> None:
        """Those of these clips; the lines of others stay, also where this is stopped half way."""
        found = [read_object(line) for line in whole_lines(self._failures)]
        kept = [content for content in found if content["id"] not in ids]
        path = failures_of(self._path)
        part = path.with_name(f"{path.name}.part")
        try:
            with _opened(part) as stream:
                stream.truncate(0)  # what a kill has left
                append_lines(stream, f"output {self._path}", *kept, ascii=False)
                part.replace(path)
                os.dup2(stream.fileno(), self._failures.fileno(), inheritable=False)
        finally:
            part.unlink(missing_ok=True)

    def append(self, found: Found) -> None:
        """Add a line, and see it on the disk.

        Raises:
            OutputError: the disk is full, or the like.
        """
        stream = self._failures if isinstance(found, Failed) else self._answers
        append_lines(stream, f"output {self._path}", found.to_json(), ascii=False)


@contextmanager
def open_output(path: Path, settings: Mapping[str, Any], start: Start) -> Iterator[Output]:
    """Open the files of an output or begin them. Those that are empty at the end are removed.

    Raises:
        JournalError: they are of other settings, damaged, of something else, or in use by another run.
        OutputError: they cannot be written.
    """
    with ExitStack() as stack:
        answers = stack.enter_context(_opened(path))
        lock(answers, path)
        failures = stack.enter_context(_opened(failures_of(path)))  # which only who holds the lock removes
        try:
            _begin(path, answers, failures, settings, start)
            yield Output(path, answers, failures, retry_failed=start.retry_failed)
        finally:
            _remove_empty(path, _size(answers), _size(failures))


def _begin(path: Path, answers: FileIO, failures: FileIO, settings: Mapping[str, Any], start: Start) -> None:
    """Check what an earlier run has left, and forget what is to be forgotten."""
    begun = bool(_size(answers) or _size(failures))
    if begun:
        _check(path, settings, start)
    if start.restart:
        answers.truncate(0)
        failures.truncate(0)
    if start.restart or not begun:
        _write_settings(path, settings)


def _opened(path: Path) -> FileIO:
    try:
        return path.open("a+b", buffering=0)
    except OSError as error:
        raise OutputError(f"output {path}: {error.strerror}; give another output") from None


def _size(stream: FileIO) -> int:
    return stream.seek(0, os.SEEK_END)


def _remove_empty(path: Path, answers: int, failures: int) -> None:
    if not failures:
        failures_of(path).unlink(missing_ok=True)
    if not answers:
        path.unlink(missing_ok=True)
    if not answers and not failures:
        settings_of(path).unlink(missing_ok=True)


def _check(path: Path, settings: Mapping[str, Any], start: Start) -> None:
    """Refuse files of other settings, and never forget what is none of ours."""
    place = settings_of(path)
    try:
        then = read_object(place.read_bytes(), lenient=True)
    except (OSError, JsonError):
        then = {}
    if (then.get("kind"), then.get("format_version")) != (KIND, FORMAT):
        raise JournalError(
            f"output {path} is no output of transcribe, or {place.name} beside it is lost; give another"
        )
    now = json.loads(json.dumps(settings))
    faults = list(_differences("", then.get("settings"), now))
    if faults and not start.restart:
        raise JournalError(f"output {path} was begun with other settings: {'; '.join(faults)}; {RESTART}")


def _differences(name: str, then: Any, now: Any) -> Iterator[str]:
    """Each value that is another one, by the names that lead to it."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in sorted(then.keys() | now.keys()):
            yield from _differences(f"{name}.{key}" if name else key, then.get(key), now.get(key))
    elif then != now:
        yield f"{name} was {shown(then, SHOWN)}, now {shown(now, SHOWN)}"


def _write_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Before the first line: what a kill leaves half written is beside no answer, and is written again."""
    content = {"kind": KIND, "format_version": FORMAT, "settings": settings}
    place = settings_of(path)
    try:
        with place.open("wb") as stream:
            stream.write(json.dumps(content, indent=1).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise OutputError(f"output {place}: {error.strerror}; give another output") from None


def _clips(path: Path, stream: FileIO) -> dict[str, Asked]:
    """The clips of a file; only what tells that a clip is done is read of each line."""
    found: dict[str, Asked] = {}
    for i, line in enumerate(whole_lines(stream), 1):
        try:
            content = read_object(line)
            found[content["id"]] = content["audio"], content["prompt"]
        except (JsonError, KeyError, TypeError):
            raise JournalError(
                f"output {path}: line {i} is damaged; remove that line, or {RESTART}"
            ) from None
    return found


def _asked(of: Asked) -> str:
    audio, prompt = of
    return f"audio {audio}, prompt {shown(prompt)}"
