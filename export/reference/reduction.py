"""The reduction methods in plain torch, row by row: what the functions of the graphs are compared with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from ...plugins.merge_tokens.op import SMALLEST_WEIGHT
from ...plugins.merge_tokens.reference import random_score
from ...plugins.select_groups.reference import select_groups
from ...profiles.flops import ResolvedProfile
from ...profiles.methods import Sums
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
    layer: int  # or `BEFORE_LAYERS`
    span: Span
    count: int  # rows to remove
    rows: Torch  # (rows, hidden_size)
    keys: Torch  # in KV layout, rotated, with bias; at the input the rows, as one head
    probabilities: Torch  # (heads, rows, rows); None at the input, where no method asks for them
    row_weights: Torch | None = None  # what the encoder says of the rows, (rows, 2), if it is asked

    @property
    def column_sums(self) -> Torch:
        """Attention that each row gets, over all heads and all query rows: (rows,)."""
        return self.probabilities.sum((0, 1))

    @property
    def similarity(self) -> Torch:
        """Cosine of each pair of neighbouring keys in the span, all heads as one vector: (length - 1,)."""
        import torch

        rows = self.keys.transpose(0, 1).flatten(1)[self.span.start : self.span.start + self.span.length]
        return torch.cosine_similarity(rows[:-1], rows[1:], dim=-1)

    @property
    def row_similarity(self) -> Torch:
        """Cosine of each pair of neighbouring rows in the span: (length - 1,)."""
        import torch

        rows = self.rows[self.span.start : self.span.start + self.span.length]
        return torch.cosine_similarity(rows[:-1], rows[1:], dim=-1)

    @property
    def segments(self) -> list[range]:
        """Rows of the span in parts of equal length, but for one row."""
        count, length = self.resolved.profile.segments, self.span.length
        ends = [part * length // count for part in range(count + 1)]
        return [range(*pair) for pair in pairwise(ends)]

    @property
    def attention_received(self) -> Torch:
        """What each row of the span receives, as the method sums it: (length,) or (kv_heads, length)."""
        return self.of_span(SUMS[self.resolved.profile.traits.sums](self))

    def of_span(self, x: Torch) -> Torch:
        """The part of the last axis, that of rows, which may be reduced."""
        return x[..., self.span.start : self.span.start + self.span.length]

    def random(self, size: int) -> Torch:
        """Seeded scores, others in every layer: (size,)."""
        import torch

        return torch.as_tensor(random_score(size, layer_seed(self.resolved.profile, self.layer)))

    @property
    def uniform(self) -> Torch:
        """1 for each pair of neighbours in one of the runs of equal length, else 0: (length - 1,)."""
        import torch

        length, kept = self.span.length, self.span.length - self.count
        run = [row * kept // length for row in range(length)]
        return torch.tensor([float(left == right) for left, right in pairwise(run)])

    @property
    def group_weights(self) -> Torch:
        """Of each row in the mean of its group: (rows,)."""
        return _equal(self) if self.row_weights is None else self.row_weights[:, 0]

    @property
    def relevances(self) -> Torch:
        """By which groups are selected, beside what they are: (rows,)."""
        return _equal(self) if self.row_weights is None else self.row_weights[:, 1]

    @cached_property
    def groups(self) -> Groups:
        """Those of rows that are alike, and which of them stay."""
        span, weight, relevance = self.span, self.group_weights.numpy(), self.relevances.numpy()
        chosen = select_groups(self.rows.numpy(), weight, relevance, span.start, span.length, self.count)
        return Groups(*(torch_of(each) for each in chosen))


@dataclass(frozen=True)
class Groups:
    """What `SelectGroups` says of a span."""

    score: Torch  # (length - 1,)
    links: Torch  # (1,)
    kept: Torch  # (groups,)
    first: Torch  # (groups,)

    @property
    def edges(self) -> list[int]:
        """Those along which rows merge."""
        return best(self.score, int(self.links))

    @property
    def dropped(self) -> list[int]:
        """Groups that go: none, if none is selected."""
        return (self.kept == 0).nonzero()[:, 0].tolist() if self.kept.any() else []


def torch_of(array: Any) -> Torch:
    """The same numbers as a tensor."""
    import torch

    return torch.as_tensor(array)


SUMS: dict[Sums, Callable[[Site], Torch]] = {
    Sums.ALL_QUERIES: lambda site: site.column_sums,
    Sums.LAST_QUERY: lambda site: site.probabilities[:, -1].sum(0),
    Sums.BY_HEAD: lambda site: site.probabilities.sum(1).unflatten(0, (len(site.keys), -1)).sum(1),
}
"""The attention that each row gets: (rows,), or (kv_heads, rows)."""


def best(score: Torch, count: int) -> list[int]:
    """Places of the `count` largest scores, in order of place; ties go to the lower one."""
    return sorted(score.argsort(descending=True, stable=True)[:count].tolist())


def merge(hidden: Torch, edges: list[int], weight: Torch, span: Span) -> Torch:
    """Replace each run of rows that `edges` link by its weighted mean: sum(w h) / sum(w), in float64.

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
    weight, wide = weight.double().clamp(min=SMALLEST_WEIGHT), hidden.double()
    shares = [weight[rows] / weight[rows].sum() for rows in clusters]
    merged = torch.stack([share @ wide[rows] for share, rows in zip(shares, clusters, strict=True)])
    return merged.to(hidden.dtype)


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


def evict(site: Site, places: list[int], rows: Torch) -> Torch:
    """Drop these rows of the span."""
    dropped = {site.span.start + place for place in places}
    return rows[[row for row in range(len(rows)) if row not in dropped]]


def disjoint(edges: list[int]) -> list[int]:
    """From left to right, the edges both of whose rows are still free."""
    taken: list[int] = []
    for edge in edges:
        if not taken or edge > taken[-1] + 1:
            taken.append(edge)
    return taken


def _gap(site: Site) -> float:
    """Between the last score that is taken and the first that is not."""
    ranked = REDUCTIONS[site.resolved.method].ranks(site).sort(descending=True).values
    if site.count >= ranked.shape[-1]:
        return math.inf
    taken, left = ranked[..., site.count - 1], ranked[..., site.count]
    return float(((taken - left) / taken.abs().clamp(min=SMALLEST_WEIGHT)).min())


@dataclass(frozen=True)
class Reduction:
    """How a method chooses, and what it does with its choice.

    A method of caches chooses rows in each KV head, and hides them; `apply` is of the other ones.
    """

    ranks: Callable[
        [Site], Torch
    ]  # the largest are taken: (rows or edges,), or (kv_heads, rows), of the span
    apply: Callable[[Site, list[int], Torch], Torch] = evict
    gap: Callable[[Site], float] = _gap  # see `margin`


def _ranks_in_segments(site: Site) -> Torch:
    """Later ones go first: by rank in the segment, then by segment. (length,)"""
    import torch

    received, segments = site.attention_received, site.segments
    late = torch.zeros(site.span.length)
    for number, rows in enumerate(segments):
        falling = received[rows.start : rows.stop].argsort(descending=True, stable=True).tolist()
        for rank, place in enumerate(falling):
            late[rows.start + place] = rank * len(segments) + number
    return late


def _gap_in_segments(site: Site) -> float:
    """The least one of all segments of which some rows go."""
    received, gone = site.attention_received, set(best(_ranks_in_segments(site), site.count))
    gaps = [math.inf]
    for rows in site.segments:
        taken = [-float(received[row]) for row in rows if row in gone]
        left = [-float(received[row]) for row in rows if row not in gone]
        if taken and left:
            gaps.append((min(taken) - max(left)) / max(abs(min(taken)), SMALLEST_WEIGHT))
    return min(gaps)


def _merging(weight: Callable[[Site], Torch]) -> Callable[[Site, list[int], Torch], Torch]:
    return lambda site, edges, rows: merge(rows, edges, weight(site), site.span)


def _ranks_of_groups(site: Site) -> Torch:
    """1 for each row that does not begin a group that stays: as many as are to go. (length,)"""
    ranks, groups = site.rows.new_ones(site.span.length), site.groups
    ranks[groups.first] = 0
    ranks[groups.first[groups.dropped]] = 1
    return ranks


def _select_groups(site: Site, _: list[int], rows: Torch) -> Torch:
    merged = merge(rows, site.groups.edges, site.group_weights, site.span)
    return evict(site, site.groups.dropped, merged)


def _merge_pairs(site: Site, edges: list[int], rows: Torch) -> Torch:
    return merge(rows, disjoint(edges), _equal(site), site.span)


def _equal(site: Site) -> Torch:
    return site.rows.new_ones(len(site.rows))


REDUCTIONS: dict[str, Reduction] = {
    "weighted_merge": Reduction(lambda site: site.similarity, _merging(lambda site: site.column_sums)),
    "average_merge": Reduction(lambda site: site.similarity, _merging(_equal)),
    "random_merge": Reduction(
        lambda site: site.random(site.span.length - 1), _merging(lambda site: site.column_sums)
    ),
    "uniform_merge": Reduction(lambda site: site.uniform, _merging(_equal)),
    "affinity_pooling": Reduction(lambda site: site.row_similarity, _merging(_equal)),
    "group_select": Reduction(_ranks_of_groups, _select_groups, lambda _: math.inf),  # float64, on a grid
    "sa_map": Reduction(_ranks_of_groups, _select_groups, lambda _: math.inf),  # the same, by other weights
    "a_tome": Reduction(lambda site: site.similarity, _merge_pairs),
    "fastv": Reduction(lambda site: -site.attention_received),
    "segment_evict": Reduction(_ranks_in_segments, gap=_gap_in_segments),
    "random_evict": Reduction(lambda site: -site.random(site.span.length)),
    "h2o": Reduction(lambda site: -site.attention_received),
}
"""By the names of `METHODS`."""


def reduced(site: Site, rows: Torch) -> Torch:
    """What a method leaves of rows (rows, width)."""
    reduction = REDUCTIONS[site.resolved.method]
    return reduction.apply(site, best(reduction.ranks(site), site.count), rows)


def sources(site: Site) -> list[list[int]]:
    """The rows that each row which a method leaves stands for, in order: whatever its weights, they show."""
    import torch

    shares = reduced(site, torch.eye(len(site.rows), dtype=site.rows.dtype))
    return [share.nonzero()[:, 0].tolist() for share in shares]


def hidden_rows(site: Site) -> Torch:
    """Where a method of caches hides rows from later steps: (kv_heads, rows) of bool."""
    hidden = site.keys.new_zeros(site.keys.shape[:2]).bool()
    for head, ranks in enumerate(REDUCTIONS[site.resolved.method].ranks(site)):
        hidden[head, [site.span.start + place for place in best(ranks, site.count)]] = True
    return hidden


def margin(site: Site) -> float:
    """How far the last score that is taken stands above the first that is not, relative to its size.

    The least of all heads, where each has scores of its own.
    If it is below rounding error, another backend may validly choose the other row. Infinite where
    there is nothing to choose from, and for methods that draw from integers.
    """
    if site.resolved.profile.traits.is_random:
        return math.inf
    return REDUCTIONS[site.resolved.method].gap(site)
