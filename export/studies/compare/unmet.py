"""Why a cell does not remove the share of the prefill FLOPs that its column names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ....evaluation.results.comparison import CellRecord, called
from .grid import BUDGET_METHOD, BUDGET_SCHEDULE, Cell, Row

TOLERANCE = 0.01  # a miss that needs no words
BUDGET_ROW = called(BUDGET_METHOD, BUDGET_SCHEDULE)
OF_CACHES = (
    "removes no prefill FLOPs; its caches keep as many audio rows as those of "
    f"{BUDGET_ROW}, for the length that levels are solved for"
)
PAIRS = "merges in pairs, so that a run of n chosen edges removes n / 2 rows; runs depend on the data"
LENGTHS = "the clips are of other lengths than the reference, and counts of rows are whole"


def budgets(row: Row, rows: Iterable[tuple[Row, Sequence[CellRecord]]]) -> Iterator[float | None]:
    """The share that the caches of `BUDGET_ROW` keep at each level, of a method of caches beside that row."""
    budget = BUDGET_METHOD, BUDGET_SCHEDULE, row.quantized
    beside = (results for other, results in rows if (other.name, other.schedule, other.quantized) == budget)
    found = next(beside, None) if row.method.is_of_caches else None
    yield from [None] * len(row.cells) if found is None else (each.kept_ratio for each in found)


def unmet(row: Row, cell: Cell, result: CellRecord, budget: float | None) -> str | None:
    """The reason; None where the level is met. `budget` is what `budgets` gives."""
    if (why := cell.why or cell.unreachable) is not None:
        return why
    if cell.most is not None:
        return f"infeasible, {at_most(cell)}"
    if row.method.is_of_caches:
        kept = off_budget(result, budget)
        if kept is None or budget is None:
            return OF_CACHES
        return f"{OF_CACHES}; here {100 * kept:.1f} % for {100 * budget:.1f} %: {LENGTHS}"
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


def off_budget(result: CellRecord, budget: float | None) -> float | None:
    """The share that caches keep, where that is more than `TOLERANCE` from their budget."""
    kept = result.kept_ratio
    return None if kept is None or budget is None or abs(kept - budget) <= TOLERANCE else kept


def at_most(cell: Cell, decimals: int = 2) -> str:
    """The most that can be removed, rounded down, so that asking for it succeeds."""
    assert cell.most is not None
    steps = 10**decimals
    return f"at most {int(100 * cell.most * steps) / steps:.{decimals}f} %"
