"""Efficiencies from measured times: those with which the roofline misses them least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .roofline import Ceilings, Efficiency, Work, compute_ms, fixed_ms, memory_ms

PULL = 1e-6  # towards what was known before, beside the weight 1 of a measured time
LEAST = (1e-3, 1e-3, 0.0)  # of the factors: no time is negative, and what is fixed may be nothing
SWEEPS = 5000


@dataclass(frozen=True)
class Measured:
    """A pass that was timed."""

    work: Work
    milliseconds: float


def fitted(measured: Sequence[Measured], ceilings: Ceilings, known: Efficiency) -> Efficiency:
    """The efficiency of a device that took these times.

    Three factors are fitted, of the times of FLOPs, of bytes, and of all that is fixed, by least squares of
    the relative errors; a weak pull keeps each as it was known where the times do not determine it.
    """
    parts = np.array([_parts(each.work, ceilings, known) for each in measured])
    times = np.array([each.milliseconds for each in measured])
    flops, moved, fixed = map(float, _factors(parts / times[:, None]))
    return Efficiency(
        compute=known.compute / flops,
        memory=known.memory / moved,
        pass_ms=known.pass_ms * fixed,
        layer_ms=known.layer_ms * fixed,
        reduction_ms=known.reduction_ms * fixed,
        beam_ms=known.beam_ms * fixed,
    )


def _parts(work: Work, ceilings: Ceilings, known: Efficiency) -> tuple[float, float, float]:
    """The three parts of a time, in ms, as far as they are known."""
    return (
        compute_ms(work, ceilings) / known.compute,
        memory_ms(work, ceilings) / known.memory,
        fixed_ms(work, known),
    )


def _factors(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """x >= `LEAST` with the least |shares x - 1|^2 + PULL |x - 1|^2, one coordinate after the other.

    The sum is convex, so that the sweeps end at its only minimum.
    """
    normal = shares.T @ shares + PULL * np.eye(3)
    wanted = shares.sum(0) + PULL
    found = np.ones(3)
    for _ in range(SWEEPS):
        for i in range(3):
            rest = wanted[i] - normal[i] @ found + normal[i, i] * found[i]
            found[i] = max(LEAST[i], rest / normal[i, i])
    return found
