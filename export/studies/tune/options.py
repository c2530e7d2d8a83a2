"""What a tuning is asked for, checked once; quick to import, so that a command line has defaults."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from ....evaluation.options import EvalOptions
from ....profiles.errors import RequestError
from ....profiles.faults import count_faults
from ....profiles.keys import KEYS, POSITIONS, name_fault
from ....profiles.methods import METHODS
from ....profiles.schedule import SCHEDULES
from ....runtime.benchmark.options import MOST_RUNS
from ....runtime.tables.units import in_percent

LATENCY = "latency"
OBJECTIVES = ("flops", "kv", LATENCY)
TRIABLE = tuple(name for name, method in METHODS.items() if method.meets_targets)
"""Methods that can meet a FLOPs level, whatever the audio holds."""
DEFAULT_EVALUATION = EvalOptions()
_LEVEL = KEYS["flops_reduction"]
_LEAST = {"runs": 1, "warmup": 0}
_MOST = dict.fromkeys(_LEAST, MOST_RUNS)


@dataclass(frozen=True)
class TuneOptions:
    """The budget, the objective, and what is searched. Raises RequestError with every fault."""

    max_loss: float  # of the task's first metric, in the unit that tables show
    objective: str = "flops"
    methods: tuple[str, ...] = ("weighted_merge",)
    schedules: tuple[str, ...] = ("constant", "decay", "single")
    positions: tuple[str, ...] = POSITIONS  # of the rows that a reduction leaves
    start_layers: tuple[int, ...] = ()  # if empty 0, 2, and a quarter, a third and a half of the layers
    levels: tuple[Fraction, ...] = tuple(Fraction(tenth, 10) for tenth in range(1, 6))  # FLOPs reductions
    reference_seconds: Fraction | None = (
        None  # of audio, for which ratios are solved; the clips' mean if None
    )
    name: str = "tuned"  # of the profile
    runs: int = 10  # counted runs of a finalist, at least
    warmup: int = 3
    evaluation: EvalOptions = DEFAULT_EVALUATION  # its seed draws the halves, too; its profiles are not used
    lora: Path | None = None  # adapter that is folded into the weights, as in a build

    def __post_init__(self) -> None:
        if faults := list(_faults(self)):
            raise RequestError("; ".join(faults))


def _faults(options: TuneOptions) -> Iterator[str]:
    if not 0 <= options.max_loss < math.inf:
        yield f"a budget of {options.max_loss:g}: give a number of points from 0 on"
    for kind, given, known in (
        ("objective", (options.objective,), OBJECTIVES),
        ("method", options.methods, TRIABLE),
        ("schedule", options.schedules, SCHEDULES),
        ("positions", options.positions, POSITIONS),
    ):
        if unknown := [name for name in given if name not in known]:
            yield f"{kind} {', '.join(unknown)} cannot be tried: choose among {', '.join(known)}"
    yield from _left_out(options)
    for name in ("methods", "schedules", "positions", "levels"):
        if not getattr(options, name):
            yield f"{name}: nothing to try; give at least one"
    if refused := [in_percent(level) for level in options.levels if not _LEVEL.accepts(level)]:
        yield f"levels {', '.join(refused)}: each {_LEVEL.rule}"
    yield from (f"profile {options.name!r}: {fault}" for fault in name_fault(options.name))
    if low := [layer for layer in options.start_layers if layer < 0]:
        yield f"start layer {low[0]}: layers count from 0"
    yield from count_faults(options, _LEAST, _MOST)


def _left_out(options: TuneOptions) -> Iterator[str]:
    """Methods that would not be tried, because the schedules are those of others."""
    if not options.schedules:
        return
    faults = {name: METHODS[name].unmet_by(options.schedules) for name in options.methods if name in TRIABLE}
    others = " beside them, or leave the method out" if "" in faults.values() else ""
    yield from (f"method {name} {fault}{others}" for name, fault in faults.items() if fault)
