"""Why a cell does not remove the share of the prefill FLOPs that its column names."""

from __future__ import annotations

from ....evaluation.results.comparison import CellRecord, called
from .grid import BUDGET_METHOD, BUDGET_SCHEDULE, Cell, Row

TOLERANCE = 0.01  # a miss that needs no words
BUDGET_ROW = called(BUDGET_METHOD, BUDGET_SCHEDULE)
OF_CACHES = f"removes no prefill FLOPs; its caches keep as many audio rows as those of {BUDGET_ROW}"
PAIRS = "merges in pairs, so that a run of n chosen edges removes n / 2 rows; runs depend on the data"
LENGTHS = "the clips are of other lengths than the reference, and counts of rows are whole"


def unmet(row: Row, cell: Cell, result: CellRecord) -> str | None:
    """The reason; None where the level is met."""
    if cell.why is not None:
        return cell.why
    if cell.most is not None:
        return f"infeasible, {at_most(cell)}"
    if row.method.is_of_caches:
        return OF_CACHES
    missed = misses(row, cell, result)
    if missed is None or missed > cell.level:
        return None
    return f"removes {100 * missed:.1f} %: {PAIRS if row.method.is_data_dependent else LENGTHS}"


def misses(row: Row, cell: Cell, result: CellRecord) -> float | None:
    """What a cell removes, where that is more than `TOLERANCE` from its level in either direction."""
    found = result.flops_reduction
    if found is None or row.method.is_of_caches or abs(found - cell.level) <= TOLERANCE:
        return None
    return found


def at_most(cell: Cell, decimals: int = 2) -> str:
    """The most that can be removed, rounded down, so that asking for it succeeds."""
    assert cell.most is not None
    steps = 10**decimals
    return f"at most {int(100 * cell.most * steps) / steps:.{decimals}f} %"
