"""How far a backend may be from the reference, by the number format that it computes in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tolerance:
    """An element agrees if it is within `absolute` or within `relative` of the reference."""

    absolute: float
    relative: float
    rounding: float  # largest error that rounding makes on the way, relative to the largest value of a tensor

    def __str__(self) -> str:
        """As a table shows it."""
        return f"{self.absolute:g}" + (f" or {100 * self.relative:g} %" if self.relative else "")


TOLERANCES = {
    "fp32": Tolerance(absolute=1e-3, relative=0.0, rounding=2e-4),
    "fp16": Tolerance(absolute=5e-2, relative=2e-2, rounding=2e-2),
    "bf16": Tolerance(absolute=4e-1, relative=1e-1, rounding=1e-1),
}
"""Precision of a backend -> tolerance of all its outputs. 16 bits are for engines, and not yet tried."""
