"""What a comparison is asked for, checked once; quick to import, so that a command line has defaults."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from ....evaluation.options import EvalOptions
from ....profiles.errors import RequestError
from ....profiles.faults import count_faults
from ....profiles.keys import POSITIONS
from ....profiles.methods import FULL, VARIANTS
from ....profiles.schedule import SCHEDULES
from ...model.formats import QUANTIZED

DEFAULT_LEVELS = tuple(Fraction(percent, 100) for percent in (10, 20, 30, 40, 50))
DEFAULT_EVALUATION = EvalOptions()
_LEAST = {"start_layer": 0, "seeds": 1}
_MOST = {"seeds": 100}  # each adds a profile to every cell of a random method
NONE = "none"  # weights as the graphs compute: float32
FORMATS = (NONE, *QUANTIZED)
"""What weights can be in."""


@dataclass(frozen=True)
class CompareOptions:
    """Which rows and columns there are, and how clips are answered. Raises RequestError with every fault."""

    methods: tuple[str, ...] = tuple(VARIANTS)
    schedules: tuple[str, ...] = SCHEDULES
    levels: tuple[Fraction, ...] = DEFAULT_LEVELS  # shares of the prefill FLOPs to remove, one per column
    start_layer: int = 2
    quantize: tuple[str, ...] = (NONE,)  # what weights are in, of `FORMATS`: all rows in each
    positions: tuple[str, ...] = ("compact",)
    """Of the rows that a reduction leaves: all rows of the table in each. Methods of caches keep theirs."""
    seeds: int = 3  # of the random methods; a cell is the mean over them
    reference_seconds: Fraction | None = (
        None  # of audio, for which levels are solved; the clips' mean if None
    )
    evaluation: EvalOptions = DEFAULT_EVALUATION  # its profiles are those of the cells
    lora: Path | None = None  # adapter that is folded into the weights, as in a build

    def __post_init__(self) -> None:
        if faults := list(_faults(self)):
            raise RequestError("; ".join(faults))


def _faults(options: CompareOptions) -> Iterator[str]:
    unknown = [
        *_unknown("method", [name for name in options.methods if name != FULL], VARIANTS),
        *_unknown("schedule", options.schedules, SCHEDULES),
    ]
    if options.methods == (FULL,) and options.quantize == (NONE,):
        yield (
            f"methods {FULL} compares the full model with itself in other formats, and quantize {NONE} names "
            "none: name methods, or a format (--quantize none,int8)"
        )
    elif FULL in options.methods and not _formats_alone(options):
        yield "method full is always there, for every figure is compared with it: leave it out"
    yield from unknown
    if nothing := [name for name in ("methods", "schedules") if not getattr(options, name)]:
        yield f"{' and '.join(nothing)}: nothing to compare; give at least one"
    elif not unknown and FULL not in options.methods:
        yield from _no_row(options)
    if unknown := [name for name in options.quantize if name not in FORMATS]:
        yield f"quantize {', '.join(unknown)} is unknown: choose some of {', '.join(FORMATS)}"
    if not options.quantize or len(set(options.quantize)) < len(options.quantize):
        yield f"quantize {', '.join(options.quantize) or 'nothing'}: give at least one format, and each once"
    yield from _unknown("positions", options.positions, POSITIONS)
    if not options.positions or len(set(options.positions)) < len(options.positions):
        yield f"positions {', '.join(options.positions) or 'nothing'}: give at least one kind, and each once"
    if not options.levels or not all(0 < level < 1 for level in options.levels):
        yield "FLOPs reductions must lie between 0 and 100 %, both excluded: name one or more"
    yield from count_faults(options, _LEAST, _MOST)
    if options.reference_seconds is not None and options.reference_seconds <= 0:
        yield f"reference_seconds is {float(options.reference_seconds):g}: give a length above 0"


def _no_row(options: CompareOptions) -> Iterator[str]:
    """Why no method has a row, each with the schedules that it can have; nothing where one has."""
    faults = {name: VARIANTS[name].unmet_by(options.schedules) for name in options.methods}
    if all(faults.values()):
        yield from (f"method {name} {fault}" for name, fault in faults.items())


def _formats_alone(options: CompareOptions) -> bool:
    """Whether the full model is compared with itself in other formats, and with nothing else."""
    return options.methods == (FULL,) and options.quantize != (NONE,)


def _unknown(kind: str, given: Collection[str], known: Collection[str]) -> Iterator[str]:
    if unknown := [name for name in given if name not in known]:
        yield f"{kind} {', '.join(unknown)} is unknown: choose all, or some of {', '.join(known)}"
