"""The methods that a comparison has rows for, in the order of the published tables."""

from __future__ import annotations

from dataclasses import dataclass

from ....profiles.keys import CACHE_METHODS, DATA_DEPENDENT_METHODS, RANDOM_METHODS
from ....profiles.schedule import SCHEDULES


@dataclass(frozen=True)
class ComparedMethod:
    """One way to reduce: a method of profiles, and how its rows are called."""

    method: str
    title: str
    schedules: tuple[str, ...] = SCHEDULES  # that it can have
    fastv_score: str | None = None

    @property
    def is_random(self) -> bool:
        """Whether its answers depend on a seed."""
        return self.method in RANDOM_METHODS

    @property
    def is_data_dependent(self) -> bool:
        """Whether how many rows it leaves depends on the data."""
        return self.method in DATA_DEPENDENT_METHODS

    @property
    def is_of_caches(self) -> bool:
        """Whether it removes no prefill FLOPs, so that its levels are budgets of the KV caches."""
        return self.method in CACHE_METHODS


COMPARED_METHODS = {
    "weighted_merge": ComparedMethod("weighted_merge", "FastAdaSP"),
    "average_merge": ComparedMethod("average_merge", "average merge"),
    "random_merge": ComparedMethod("random_merge", "random merge"),
    "a_tome": ComparedMethod("a_tome", "A-ToMe"),
    "fastv": ComparedMethod("fastv", "FastV"),
    "fastv_last_query": ComparedMethod("fastv", "FastV, last query", fastv_score="last_query"),
    "random_evict": ComparedMethod("random_evict", "random eviction"),
    "h2o": ComparedMethod("h2o", "H2O", ("constant",)),
}
