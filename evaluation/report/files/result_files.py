"""Result files, told apart by what they hold; the faults of all of them are told at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ....profiles.errors import ResultsError
from .benchmark import BenchmarkFile, read_benchmark
from .comparison import Comparison, read_comparison
from .evaluation import EvaluationFile, read_evaluation
from .fields import FieldError, Fields
from .records import Source
from .selection import SelectionFile, read_selection
from .tuning import TuningFile, read_tuning

ResultFile = Comparison | EvaluationFile | SelectionFile | TuningFile | BenchmarkFile
FORMAT_VERSION = 1  # of every kind so far
READERS: dict[str, Callable[[Fields, str], ResultFile]] = {
    "bench": read_benchmark,
    "eval": read_evaluation,
    "compare": read_comparison,
    "select-layer": read_selection,
    "tune": read_tuning,
}
BENCHMARK_FIELDS = {"artifact", "protocol", "environment", "results"}  # of files that name no kind


@dataclass(frozen=True)
class Results:
    """The files of a page, by kind, each kind in the order given."""

    comparisons: tuple[Comparison, ...] = ()
    evaluations: tuple[EvaluationFile, ...] = ()
    selections: tuple[SelectionFile, ...] = ()
    tunings: tuple[TuningFile, ...] = ()
    benchmarks: tuple[BenchmarkFile, ...] = ()

    @property
    def sources(self) -> tuple[Source, ...]:
        """Of all files."""
        groups: tuple[Sequence[ResultFile], ...] = (
            self.comparisons,
            self.selections,
            self.evaluations,
            self.benchmarks,
            self.tunings,
        )
        return tuple(found.source for group in groups for found in group)


def read_results(paths: Iterable[Path]) -> Results:
    """Read all files.

    Raises:
        ResultsError: some cannot be read, or are of no known kind or version; all of them are named.
    """
    found: list[ResultFile] = []
    faults: list[str] = []
    names = _names(paths := tuple(dict.fromkeys(paths)))
    for path in paths:
        try:
            found.append(_read(path, names[path]))
        except OSError as error:
            faults.append(f"{path}: {error.strerror}")
        except FieldError as error:
            faults.append(f"{path}: {error}")
    if faults:
        raise ResultsError(f"{len(faults)} of {len(paths)} files cannot be reported", faults)
    return Results(
        tuple(one for one in found if isinstance(one, Comparison)),
        tuple(one for one in found if isinstance(one, EvaluationFile)),
        tuple(one for one in found if isinstance(one, SelectionFile)),
        tuple(one for one in found if isinstance(one, TuningFile)),
        tuple(one for one in found if isinstance(one, BenchmarkFile)),
    )


def _names(paths: Sequence[Path]) -> dict[Path, str]:
    """What the page calls the files: their names, or whole paths where names are equal."""
    names = [path.name for path in paths]
    return {path: path.name if names.count(path.name) == 1 else str(path) for path in paths}


def _read(path: Path, name: str) -> ResultFile:
    fields = Fields.of(_json(path.read_bytes()))
    kind, version = _kind(fields), fields.content.get("format_version")
    if kind not in READERS:
        raise FieldError(f"is of kind {kind!r}; known are {', '.join(READERS)}")
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise FieldError(f"is a {kind} file of format version {version!r}; known is {FORMAT_VERSION}")
    return READERS[kind](fields, name)


def _json(content: bytes) -> Any:
    try:
        return json.loads(content.decode("utf-8"), parse_constant=_refuse)
    except FieldError:
        raise
    except UnicodeDecodeError:
        raise FieldError("is no text; give JSON that a command of this tool wrote") from None
    except ValueError as error:
        raise FieldError(f"is no JSON: {error}; give a file that a command of this tool wrote") from None
    except RecursionError:
        raise FieldError("is nested too deeply to be a result file") from None


def _refuse(constant: str) -> NoReturn:
    raise FieldError(f"holds {constant}, which JSON does not know")


def _kind(fields: Fields) -> str:
    """As the file says; benchmarks of earlier versions do not say it."""
    if "kind" in fields.content:
        return fields.text("kind")
    if fields.content.keys() >= BENCHMARK_FIELDS:
        return "bench"
    raise FieldError(f"names no kind; known are {', '.join(READERS)}")
