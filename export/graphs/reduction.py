"""One reduction site: from the rows after attention to fewer rows, for every method that removes rows."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ...plugins.evict_tokens.op import EVICT_TOKENS
from ...plugins.merge_tokens.op import MERGE_EDGES, MERGE_PAIRS, MERGE_TOKENS
from ...profiles.flops import DecoderDims
from ...profiles.profile import Profile, layer_seed
from .graph import Graph
from .lowering.lowering import Cut, Lowering, Span


@dataclass(frozen=True)
class Site:
    """Values of one layer at the moment of its reduction, by name."""

    name: str  # node name prefix, such as /layers.3/reduce
    layer: int
    dims: DecoderDims
    query: str  # (rows, heads * head_dim), rotated
    key: str  # in KV layout, rotated
    mass: str | None  # (rows,), where the method asks for column sums
    span: Span
    length: str  # rows of the span as they reach this layer, int64 of shape (1,)


def needs_mass(profile: Profile) -> bool:
    """Whether the method reads the column sums over all query rows."""
    always = profile.method in ("weighted_merge", "random_merge", "h2o")
    return always or (profile.method == "fastv" and profile.fastv_score == "all_queries")


def reduce_rows(
    g: Graph, lowering: Lowering, profile: Profile, ratio: Fraction, site: Site, hidden: str, places: str = ""
) -> tuple[str, str, str]:
    """Append the reduction; return the rows, the new length of the span, and the positions of the rows.

    The count is floor(length * ratio) in exact int64 arithmetic. `places`, (rows, 1), where positions are
    kept, goes the way of the rows: what is merged stands at the mean position, by the same weights.
    """
    removed = removed_rows(g, site.length, ratio, site.name)
    op_type, inputs = REDUCERS[profile.method](g, lowering, profile, site)
    cut = Cut(site.span, site.length, removed, ratio)
    reduced = lowering.reduce(g, site.name, op_type, [hidden, *inputs], cut)
    if profile.method == "a_tome":  # the length depends on the data
        removed = g.op("Sub", g.dim(hidden, 0), g.dim(reduced, 0))
    if places:
        places = lowering.reduce(g, f"{site.name}/positions", op_type, [places, *inputs], cut)
    return reduced, g.op("Sub", site.length, removed), places


def removed_rows(g: Graph, length: str, ratio: Fraction, name: str) -> str:
    """floor(length * ratio), int64 of shape (1,)."""
    removed = g.op("Mul", length, g.ints(ratio.numerator))
    return g.op("Div", removed, g.ints(ratio.denominator), name=f"{name}/removed")


def _weighted_merge(g: Graph, lowering: Lowering, profile: Profile, site: Site) -> tuple[str, list[str]]:
    assert site.mass is not None
    return MERGE_TOKENS, [site.key, site.mass]


def _average_merge(g: Graph, lowering: Lowering, profile: Profile, site: Site) -> tuple[str, list[str]]:
    ones = g.op("Expand", g.const([1.0], np.float32), g.dim(site.key, 1))
    return MERGE_TOKENS, [site.key, ones]


def _random_merge(g: Graph, lowering: Lowering, profile: Profile, site: Site) -> tuple[str, list[str]]:
    assert site.mass is not None
    edges = g.op("Sub", site.length, g.ints(1))
    return MERGE_EDGES, [_random(g, lowering, profile, site, edges), site.mass]


def _a_tome(g: Graph, lowering: Lowering, profile: Profile, site: Site) -> tuple[str, list[str]]:
    return MERGE_PAIRS, [site.key]


def _fastv(g: Graph, lowering: Lowering, profile: Profile, site: Site) -> tuple[str, list[str]]:
    mass = site.mass
    if mass is None:
        mass = lowering.last_query_mass(g, f"{site.name}/score", site.dims, site.query, site.key)
    return EVICT_TOKENS, [g.slice(mass, site.span.start, g.op("Add", site.span.start, site.length), 0)]


def _random_evict(g: Graph, lowering: Lowering, profile: Profile, site: Site) -> tuple[str, list[str]]:
    return EVICT_TOKENS, [_random(g, lowering, profile, site, site.length)]


def _random(g: Graph, lowering: Lowering, profile: Profile, site: Site, count: str) -> str:
    """Scores that differ from layer to layer, the same on every run."""
    return lowering.random_score(g, f"{site.name}/score", count, layer_seed(profile, site.layer))


REDUCERS = {
    "weighted_merge": _weighted_merge,
    "average_merge": _average_merge,
    "random_merge": _random_merge,
    "a_tome": _a_tome,
    "fastv": _fastv,
    "random_evict": _random_evict,
}
