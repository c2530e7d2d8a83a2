"""The reduction methods in plain torch, row by row: what the functions of the graphs are compared with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...plugins.merge_tokens.op import SMALLEST_WEIGHT
from ...plugins.merge_tokens.reference import random_score
from ...profiles.flops import ResolvedProfile
from ...profiles.profile import layer_seed

Torch = Any  # a torch.Tensor


@dataclass(frozen=True)
class Span:
    """The rows that a reduction may touch."""

    start: int
    length: int


@dataclass(frozen=True)
class Site:
    """What a reduction in one layer may look at."""

    resolved: ResolvedProfile
    layer: int
    span: Span
    count: int  # rows to remove
    keys: Torch  # in KV layout, rotated, with bias
    probabilities: Torch  # (heads, rows, rows)

    @property
    def column_sums(self) -> Torch:
        """Attention that each row gets, over all heads and all query rows: (rows,)."""
        return self.probabilities.sum((0, 1))

    @property
    def attention_by_head(self) -> Torch:
        """What `h2o` ranks rows by: the attention that each KV head pays them, over all heads of its group
        and all query rows: (kv_heads, length).
        """
        sums = self.probabilities.sum(1).unflatten(0, (len(self.keys), -1)).sum(1)
        return sums[:, self.span.start : self.span.start + self.span.length]

    @property
    def similarity(self) -> Torch:
        """Cosine of each pair of neighbouring keys in the span, all heads as one vector: (length - 1,)."""
        import torch

        rows = self.keys.transpose(0, 1).flatten(1)[self.span.start : self.span.start + self.span.length]
        return torch.cosine_similarity(rows[:-1], rows[1:], dim=-1)

    @property
    def attention_received(self) -> Torch:
        """What `fastv` ranks rows by, over the queries that the profile names: (length,)."""
        last_query = self.resolved.profile.fastv_score == "last_query"
        score = self.probabilities[:, -1].sum(0) if last_query else self.column_sums
        return score[self.span.start : self.span.start + self.span.length]

    def random(self, size: int) -> Torch:
        """Seeded scores, others in every layer: (size,)."""
        import torch

        return torch.as_tensor(random_score(size, layer_seed(self.resolved.profile, self.layer)))


def best(score: Torch, count: int) -> list[int]:
    """Places of the `count` largest scores, in order of place; ties go to the lower one."""
    return sorted(score.argsort(descending=True, stable=True)[:count].tolist())


def merge(hidden: Torch, edges: list[int], weight: Torch, span: Span) -> Torch:
    """Replace each run of rows that `edges` link by its weighted mean: sum(w h) / sum(w).

    Args:
        hidden: (rows, hidden_size).
        edges: i links rows i and i + 1 of the span.
        weight: (rows,).
        span: where the edges count from.
    """
    import torch

    linked = {span.start + edge + 1 for edge in edges}
    clusters: list[list[int]] = []
    for row in range(len(hidden)):
        if row in linked:
            clusters[-1].append(row)
        else:
            clusters.append([row])
    weight = weight.clamp(min=SMALLEST_WEIGHT)
    shares = [weight[rows] / weight[rows].sum() for rows in clusters]
    return torch.stack([share @ hidden[rows] for share, rows in zip(shares, clusters, strict=True)])


def merge_at_once(hidden: Torch, edges: list[int], weight: Torch, span: Span) -> Torch:
    """As `merge`, all clusters at once: equal to it within rounding, and a single row stays as it is."""
    import torch

    heads = torch.ones(len(hidden), dtype=torch.bool)
    heads[span.start + 1 + torch.as_tensor(edges, dtype=torch.int64)] = False
    cluster = heads.cumsum(0) - 1  # of every row
    weight = weight.clamp(min=SMALLEST_WEIGHT)
    total = weight.new_zeros(len(hidden) - len(edges)).index_add(0, cluster, weight)
    share = weight / total[cluster]
    return hidden.new_zeros(len(total), hidden.shape[1]).index_add(0, cluster, share[:, None] * hidden)


def evict(hidden: Torch, score: Torch, site: Site) -> Torch:
    """Drop the rows of the span with the smallest scores (length,)."""
    dropped = {site.span.start + place for place in best(-score, site.count)}
    return hidden[[row for row in range(len(hidden)) if row not in dropped]]


def disjoint(edges: list[int]) -> list[int]:
    """From left to right, the edges both of whose rows are still free."""
    taken: list[int] = []
    for edge in edges:
        if not taken or edge > taken[-1] + 1:
            taken.append(edge)
    return taken


def _weighted_merge(site: Site, hidden: Torch) -> Torch:
    return merge(hidden, best(site.similarity, site.count), site.column_sums, site.span)


def _average_merge(site: Site, hidden: Torch) -> Torch:
    ones = hidden.new_ones(len(hidden))
    return merge(hidden, best(site.similarity, site.count), ones, site.span)


def _random_merge(site: Site, hidden: Torch) -> Torch:
    edges = best(site.random(site.span.length - 1), site.count)
    return merge(hidden, edges, site.column_sums, site.span)


def _a_tome(site: Site, hidden: Torch) -> Torch:
    edges = disjoint(best(site.similarity, site.count))
    return merge(hidden, edges, hidden.new_ones(len(hidden)), site.span)


def _fastv(site: Site, hidden: Torch) -> Torch:
    return evict(hidden, site.attention_received, site)


def _random_evict(site: Site, hidden: Torch) -> Torch:
    return evict(hidden, site.random(site.span.length), site)


def _h2o(site: Site) -> Torch:
    gone = site.keys.new_zeros(site.keys.shape[:2]).bool()
    for head, score in enumerate(site.attention_by_head):
        gone[head, [site.span.start + place for place in best(-score, site.count)]] = True
    return gone


METHODS: dict[str, Callable[[Site, Torch], Torch]] = {
    "weighted_merge": _weighted_merge,
    "average_merge": _average_merge,
    "random_merge": _random_merge,
    "a_tome": _a_tome,
    "fastv": _fastv,
    "random_evict": _random_evict,
}

CACHE_METHODS: dict[str, Callable[[Site], Torch]] = {"h2o": _h2o}
"""Method -> the rows that later steps do not see, in each KV head: (kv_heads, rows) of bool."""

RANKED_BY: dict[str, Callable[[Site], Torch]] = {
    "weighted_merge": lambda site: site.similarity,
    "average_merge": lambda site: site.similarity,
    "a_tome": lambda site: site.similarity,
    "fastv": lambda site: -site.attention_received,
    "h2o": lambda site: -site.attention_by_head,
}
"""Method -> the scores whose largest it takes, of each head if it has its own, where rounding can matter."""


def margin(site: Site) -> float:
    """How far the last score that is taken stands above the first that is not, relative to its size.

    The least of all heads, where each has scores of its own.
    If it is below rounding error, another backend may validly choose the other row. Infinite where
    there is nothing to choose from, and for methods that draw from integers.
    """
    if site.resolved.method not in RANKED_BY:
        return math.inf
    ranked = RANKED_BY[site.resolved.method](site).sort(descending=True).values
    if site.count >= ranked.shape[-1]:
        return math.inf
    taken, left = ranked[..., site.count - 1], ranked[..., site.count]
    return float(((taken - left) / taken.abs().clamp(min=SMALLEST_WEIGHT)).min())
