"""Result files: JSON of a record, its kind and its format version, and the command line that made it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from ...profiles.codec import RecordError, from_json, to_json
from ...profiles.errors import ResultsError
from ...profiles.faults import shown
from ...profiles.json_text import JsonError, read_object
from ...runtime.benchmark.load.records import LOAD_FORMAT, LoadBenchmark
from ...runtime.benchmark.records import BENCHMARK_FORMAT, Benchmark
from .comparison import COMPARISON_FORMAT, ComparisonResult
from .evaluation import EVALUATION_FORMAT, EvaluationResult
from .plan import PLAN_FORMAT, PlanResult
from .row_map import ROW_MAP_FORMAT, RowMapResult
from .selection import SELECTION_FORMAT, SelectionResult
from .tuning import TUNING_FORMAT, TuningResult

Result = (
    Benchmark
    | LoadBenchmark
    | EvaluationResult
    | ComparisonResult
    | SelectionResult
    | TuningResult
    | PlanResult
    | RowMapResult
)
Found = TypeVar("Found", bound=Result)
PROGRAM = "fastadasp-export"
OLD_BENCHMARK = {"artifact", "protocol", "environment", "results"}  # in files that name no kind


@dataclass(frozen=True)
class Kind:
    """What the files of one command hold."""

    record: type[Result]
    version: int  # of the format; a file of another one is refused
    command: str = ""  # that makes such files, if it is not called as the kind


KINDS = {
    "bench": Kind(Benchmark, BENCHMARK_FORMAT),
    "eval": Kind(EvaluationResult, EVALUATION_FORMAT),
    "compare": Kind(ComparisonResult, COMPARISON_FORMAT),
    "select-layer": Kind(SelectionResult, SELECTION_FORMAT),
    "tune": Kind(TuningResult, TUNING_FORMAT),
    "plan": Kind(PlanResult, PLAN_FORMAT),
    "bench-load": Kind(LoadBenchmark, LOAD_FORMAT, "bench"),
    "row-map": Kind(RowMapResult, ROW_MAP_FORMAT, "run"),
}
"""By the command, or what is told from its other files."""


@dataclass(frozen=True)
class ResultFile(Generic[Found]):
    """A result, and where it comes from."""

    name: str  # what people call the file
    found: Found
    command: str | None  # the line that made it, as a shell takes it; None for one made from Python

    @property
    def kind(self) -> str:
        """What it holds, as `KINDS` calls it."""
        return kind_of(self.found)


@dataclass(frozen=True)
class Results:
    """Files of any kind, in the order given."""

    files: tuple[ResultFile[Result], ...] = ()

    def of(self, record: type[Found]) -> tuple[ResultFile[Found], ...]:
        """Those that hold one kind of record."""
        return tuple(
            ResultFile(file.name, file.found, file.command)
            for file in self.files
            if isinstance(file.found, record)
        )


def kind_of(found: Result) -> str:
    """What `KINDS` calls such a result."""
    return next(name for name, kind in KINDS.items() if isinstance(found, kind.record))


def result_text(found: Result, command: str | None = None) -> str:
    """The content of a result file.

    Args:
        found: the record.
        command: the command line that made it; None for one made from Python.
    """
    kind = kind_of(found)
    header = {"kind": kind, "format_version": KINDS[kind].version, "command": command}
    content = {**header, **to_json(found)}
    return _as_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)) + "\n"


def read_results(paths: Iterable[Path]) -> Results:
    """Read all files.

    Raises:
        ResultsError: some cannot be read, or are of no known kind or version; every fault of each is named.
    """
    found: list[ResultFile[Result]] = []
    faults: list[str] = []
    names = _names(paths := tuple(dict.fromkeys(paths)))
    for path in paths:
        try:
            found.append(_parse(path.read_bytes(), names[path]))
        except OSError as error:
            faults.append(f"{path}: {error.strerror}")
        except JsonError as error:
            faults.append(f"{path}: {error}; give a file that a command of this tool wrote")
        except RecordError as error:
            faults += [f"{path}: {fault}" for fault in error.faults]
    if faults:
        faulty = len(paths) - len(found)
        raise ResultsError(f"{faulty} of {len(paths)} files cannot be read", faults)
    return Results(tuple(found))


def _names(paths: Sequence[Path]) -> dict[Path, str]:
    """What people call the files: their names, or whole paths where names are equal."""
    names = [path.name for path in paths]
    return {path: _as_text(path.name if names.count(path.name) == 1 else str(path)) for path in paths}


def _as_text(text: str) -> str:
    """Without what is no Unicode, as parts of a path may be."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _parse(content: bytes, name: str) -> ResultFile[Result]:
    fields = read_object(content)
    kind = _kind(fields)
    return ResultFile(name, from_json(KINDS[kind].record, fields), _command(fields, kind))


def _kind(fields: dict[str, Any]) -> str:
    """The kind of a file, whose version is checked."""
    known = ", ".join(KINDS)
    kind = fields.get("kind", "bench" if fields.keys() >= OLD_BENCHMARK else None)
    if kind is None:
        raise RecordError(f"names no kind; known are {known}")
    if not isinstance(kind, str) or kind not in KINDS:
        raise RecordError(f"is of kind {shown(kind)}; known are {known}")
    version, wanted = fields.get("format_version"), KINDS[kind].version
    if version != wanted or isinstance(version, bool):
        raise RecordError(
            f"is a file of {kind}, format version {shown(version)}; this version of {PROGRAM} reads "
            f"{wanted}: make it again with: {PROGRAM} {command_of(kind)}"
        )
    return kind


def command_of(kind: str) -> str:
    """The command that makes such files."""
    return KINDS[kind].command or kind


def _command(fields: dict[str, Any], kind: str) -> str | None:
    """The line, which a shell must take as this command and nothing else: people will paste it."""
    command = fields.get("command", "")
    if command is not None and not _is_line_of(kind, command):
        raise RecordError(f"command is {shown(command)}, not a command line of {PROGRAM} {command_of(kind)}")
    return None if command is None else str(command)


def _is_line_of(kind: str, command: object) -> bool:
    """Whether a text is a line as `shlex.join` quotes it, in which no word is more than a word."""
    try:
        words = shlex.split(command) if isinstance(command, str) else []
    except ValueError:  # a quote that does not end
        return False
    return words[:2] == [PROGRAM, command_of(kind)] and shlex.join(words) == command
