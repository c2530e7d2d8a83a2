"""What an evaluation is asked for, checked once; quick to import, so that a command line has defaults."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from numbers import Real
from typing import TypeGuard

from ..profiles.errors import RequestError
from ..profiles.faults import count_faults, names_fault, shown
from ..runtime.backend_options import MOST_THREADS
from ..runtime.choice.acceptance import ENOUGH_RECORDINGS
from ..runtime.decoding.options import NOTHING_GIVEN, SearchOptions
from ..runtime.runtime_options import MOST_BATCH, RuntimeOptions
from .metrics.normalizers import NORMALIZERS
from .metrics.tasks import TASKS

DEFAULT_RUNTIME = RuntimeOptions()
_LEAST = {"resamples": 1, "seed": 0, "workers": 1, "at_once": 1, "least_recordings": 1}
MOST_RESAMPLES = 10**6
ENOUGH_RESAMPLES = 100  # to judge a budget: of fewer, hardly any lie beyond the ends of an interval
_MOST = {
    "resamples": MOST_RESAMPLES,
    "workers": MOST_THREADS,  # each has threads of its own
    "at_once": MOST_BATCH,
}


@dataclass(frozen=True)
class Bootstrap:
    """How often clips are drawn again for an interval; one seed draws the same clips every time."""

    resamples: int = 1000
    seed: int = 0


@dataclass(frozen=True)
class EvalOptions:
    """How clips are answered and measured. Raises RequestError with every fault."""

    profiles: tuple[str, ...] = ()  # of the artifact, all if empty; the others are compared with the first
    search: SearchOptions = NOTHING_GIVEN  # what is left out is as the artifact has it
    runtime: RuntimeOptions = DEFAULT_RUNTIME  # without threads, the workers share the cores
    normalizer: str | None = None  # one of `NORMALIZERS`; that of the task if None
    resamples: int = Bootstrap.resamples
    seed: int = Bootstrap.seed
    workers: int = 1  # processes, each with the artifact loaded once
    at_once: int = 1  # profiles of a clip whose decode steps are shared, where the backend can
    token_loss: bool = False  # measure the loss per token of the references, too
    max_loss: float | None = None  # budget: points of the first metric that a profile may lose; None: no gate
    least_recordings: int = (
        ENOUGH_RECORDINGS  # with fewer recordings, no profile is found to be within its budget
    )

    @property
    def is_timed(self) -> bool:
        """Whether times tell of the profiles, and not of what else the machine computes."""
        return self.workers == 1 and self.at_once == 1 and not self.token_loss

    @property
    def bootstrap(self) -> Bootstrap:
        """How intervals are made."""
        return Bootstrap(self.resamples, self.seed)

    def normalizer_for(self, task: str) -> str:
        """The name of the normaliser that the texts of a task go through."""
        return self.normalizer or TASKS[task].normalizer

    def resolved(self, generation: SearchOptions, vocab_size: int) -> EvalOptions:
        """These options for an artifact, which decides with `generation` what the search leaves out.

        Raises:
            RequestError: ids that are none of its tokens.
        """
        self.search.check_vocabulary(vocab_size)
        return replace(self, search=self.search.resolved(generation))

    def __post_init__(self) -> None:
        if faults := list(_faults(self)):
            raise RequestError("; ".join(faults))


def is_budget(value: object) -> TypeGuard[float]:
    """Whether a value is a number of points that may be lost."""
    return isinstance(value, Real) and not isinstance(value, bool) and 0 <= float(value) < math.inf


def _faults(options: EvalOptions) -> Iterator[str]:
    yield from count_faults(options, _LEAST, _MOST)
    yield from names_fault("profiles", options.profiles)
    for name, kind in (("search", SearchOptions), ("runtime", RuntimeOptions)):
        if not isinstance(found := getattr(options, name), kind):
            yield f"{name} is {shown(found)}: give {kind.__name__}"
    if options.max_loss is not None and not is_budget(options.max_loss):
        yield f"max_loss is {shown(options.max_loss)}: give a number of points from 0 on"
    if options.max_loss is not None and options.resamples in range(1, ENOUGH_RESAMPLES):
        yield (
            f"resamples is {options.resamples}, too rough an interval to judge a budget by: give at least "
            f"{ENOUGH_RESAMPLES}, or no budget"
        )
    chosen = options.normalizer
    if chosen is not None and not (isinstance(chosen, str) and chosen in NORMALIZERS):
        yield f"normalizer {shown(chosen)} is unknown; choose {', '.join(NORMALIZERS)}"
