"""What a selection is asked for; quick to import, so that the command line can show the defaults."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from ....evaluation.options import MOST_RESAMPLES
from ....profiles.errors import RequestError
from ....profiles.faults import count_faults
from ....profiles.keys import POSITIONS, name_fault
from ....runtime.backend_options import MOST_THREADS

ENOUGH_FOR_ENTROPY = 32
_LEAST = {"resamples": 1, "seed": 0, "threads": 0}
_MOST = {"resamples": MOST_RESAMPLES, "threads": MOST_THREADS}


@dataclass(frozen=True)
class SelectionOptions:
    """What is asked for.

    Raises:
        RequestError: a number out of range.
    """

    flops_reduction: Fraction  # the share of the prefill FLOPs to remove
    name: str = "selected"  # of the profile
    positions: str = "compact"  # of the rows that a merge leaves
    reference_seconds: Fraction | None = (
        None  # of audio, for which ratios are solved; the clips' mean if None
    )
    resamples: int = 1000  # of the recordings
    seed: int = 0  # of the resamples
    threads: int = 0  # of torch; 0 takes one per core
    lora: Path | None = None  # adapter that is folded into the weights, as in a build

    def __post_init__(self) -> None:
        if not 0 < self.flops_reduction < 1:
            percent = float(100 * self.flops_reduction)
            raise RequestError(f"a FLOPs reduction of {percent:g} %: give one between 0 and 100")
        if self.positions not in POSITIONS:
            raise RequestError(f"positions {self.positions!r} are unknown: choose {' or '.join(POSITIONS)}")
        named = (f"profile {self.name!r}: {fault}" for fault in name_fault(self.name))
        if faults := [*named, *count_faults(self, _LEAST, _MOST)]:
            raise RequestError("; ".join(faults))
