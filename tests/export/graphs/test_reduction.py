"""One reduction of a graph against its definition in torch: any length, ratio and ties, at any place."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastadasp.export.checkpoint.precision import FP32
from fastadasp.export.graphs.graph import Graph
from fastadasp.export.graphs.lowering.lowering import Cut, SpanValues
from fastadasp.export.graphs.lowering.onnxruntime import OnnxRuntimeLowering
from fastadasp.export.graphs.lowering.onnxruntime_cuda import OnnxRuntimeCudaLowering
from fastadasp.export.graphs.lowering.tensorrt import TensorRTLowering
from fastadasp.export.graphs.reduction import REDUCERS, Attended, SiteValues, removed_rows
from fastadasp.export.reference.reduction import REDUCTIONS, Site, Span, margin, reduced
from fastadasp.profiles.flops import DecoderDims, ResolvedProfile
from fastadasp.profiles.methods import METHODS, VARIANTS
from fastadasp.profiles.profile import Profile
from fastadasp.profiles.schedule import BEFORE_LAYERS, INPUT, removed
from fastadasp.profiles.signature import (
    FLOAT,
    INT64,
    PREFIX_IDS,
    ROW_WEIGHTS,
    SUFFIX_IDS,
    TensorSpec,
    row_weights,
)

HIDDEN, BEFORE, AFTER = 6, 2, 1
DIMS = DecoderDims(4, HIDDEN, 2, 2, 3, 8, 11)
RATIOS = [Fraction(ratio) for ratio in ("0", "1/1000", "2/7", "1/2", "3/4", "999/1000")]
LOWERINGS = {
    "onnxruntime": OnnxRuntimeLowering,
    "onnxruntime-cuda": lambda: OnnxRuntimeCudaLowering(FP32, 64, 64),
}
PLACES = [
    *(
        (name, 1)
        for name, method in VARIANTS.items()
        if not (method.is_of_caches or method.weighs_by_encoder)  # which knows of no layer
    ),
    *((name, BEFORE_LAYERS) for name, method in VARIANTS.items() if INPUT in method.schedules),
]

CASES = [
    (target, *place)
    for target, lowering in LOWERINGS.items()
    for place in PLACES
    if not VARIANTS[place[0]].selects_groups or lowering().has_loops
]


def profile_of(name, place, ratio, segments=10):
    """One that reduces once, there."""
    method = VARIANTS[name]
    schedule = INPUT if place == BEFORE_LAYERS else method.schedules[0]
    own = {"segments": segments} if method.in_segments else {}
    profile = Profile("mine", method.name, schedule, ratio=ratio, **method.settings, **own)
    return ResolvedProfile(profile, ratio, (ratio,) * DIMS.num_layers)


@cache
def session_of(name, place, ratio, target, segments=10):
    """A graph of one reduction alone."""
    lowering, resolved = LOWERINGS[target](), profile_of(name, place, ratio, segments)
    g = Graph("one", None, lowering)
    for spec in (
        TensorSpec("rows", FLOAT, ("n", HIDDEN)),
        TensorSpec("query", FLOAT, ("n", 6)),
        TensorSpec("key", FLOAT, (2, "n", 3)),
        TensorSpec("sums", FLOAT, ("n",)),
    ):
        g.input(spec)
    if VARIANTS[name].weighs_by_encoder:
        for spec in (TensorSpec(PREFIX_IDS, INT64, (BEFORE,)), TensorSpec(SUFFIX_IDS, INT64, (AFTER,))):
            g.input(spec)
        g.input(row_weights())
    length = g.op("Sub", g.dim("rows", 0), g.ints(BEFORE + AFTER))
    span = SpanValues(g.ints(BEFORE), length, BEFORE, AFTER)
    cut = Cut(span, length, removed_rows(g, length, ratio, "/one"), ratio)
    attended = None if place == BEFORE_LAYERS else Attended("rows", "query", "key", "sums")
    site = SiteValues(g, lowering, resolved.profile, DIMS, place, "rows", attended, cut)
    reducer = REDUCERS[VARIANTS[name].name]
    left = reducer.choose(site).apply("reduced", "rows")
    g.op("Identity", left, outputs=["left"])
    g.op("Identity", cut.removed, outputs=["removed"])
    g.output(TensorSpec("left", FLOAT, ("left", HIDDEN)))
    g.output(TensorSpec("removed", INT64, (1,)))
    model = g.model(lowering.decoder_functions(DIMS, reducer.op_type), lowering.domains)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def inputs(length, seed, levels):
    """Rows of a prompt, and attention; with few levels many rows and sums are equal."""
    rng, n = np.random.default_rng(seed), BEFORE + length + AFTER

    def draw(*shape):
        drawn = rng.standard_normal(shape)
        return np.round(drawn * levels).astype(np.float32) / np.float32(levels)

    query, key = draw(n, 6), draw(2, n, 3)
    scores = torch.einsum("qhd,hkd->hqk", torch.tensor(query).unflatten(1, (2, 3)), torch.tensor(key))
    hidden = torch.full((n, n), -torch.inf).triu(1)
    probabilities = (scores / 3**0.5 + hidden).softmax(-1)
    return {"rows": draw(n, HIDDEN), "query": query, "key": key}, probabilities


def of_encoder(name, length, seed, levels):
    """What a graph takes of the encoder, for a method that asks: attention of the rows, with zeros."""
    if not VARIANTS[name].weighs_by_encoder:
        return {}
    weights = np.round(np.random.default_rng(seed).random((length, 2)) * levels) / levels
    ids = {PREFIX_IDS: np.zeros(BEFORE, np.int64), SUFFIX_IDS: np.zeros(AFTER, np.int64)}
    return {**ids, ROW_WEIGHTS: weights.astype(np.float32)}


def expected(name, place, ratio, feed, probabilities, segments=10, told=None):
    """By the definition in torch, and how close its choice was."""
    rows, keys = torch.tensor(feed["rows"]), torch.tensor(feed["key"])
    span = Span(BEFORE, len(rows) - BEFORE - AFTER)
    resolved = profile_of(name, place, ratio, segments)
    seen = (rows[None], None) if place == BEFORE_LAYERS else (keys, probabilities)
    if told is not None:  # of the audio; text has ones
        told = torch.nn.functional.pad(torch.tensor(told), (0, 0, BEFORE, AFTER), value=1.0)
    site = Site(resolved, place, span, removed(span.length, ratio), rows, *seen, told)
    if not site.count:
        return rows.numpy(), np.inf
    return reduced(site, rows).numpy(), min(margin(site), gap_in_numbers(site))


def gap_in_numbers(site):
    """The margin, not relative: a cosine of about 0 is rounded by more than its size."""
    if margin(site) == np.inf:
        return np.inf
    ranked = REDUCTIONS[site.resolved.method].ranks(site).sort(descending=True).values
    return float(ranked[site.count - 1] - ranked[site.count])


@pytest.mark.parametrize(("target", "name", "place"), CASES)
@settings(max_examples=40)
@given(
    st.one_of(st.integers(0, 3), st.integers(4, 30)),
    st.sampled_from(RATIOS),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 1000]),
)
def test_what_is_left_is_what_the_definition_leaves(target, name, place, length, ratio, seed, levels):
    length = max(length, name == "random_merge")  # which has a score for each pair of neighbours
    feed, probabilities = inputs(length, seed, levels)
    told = of_encoder(name, length, seed, levels)
    wanted, gap = expected(name, place, ratio, feed, probabilities, told=told.get(ROW_WEIGHTS))
    sums = probabilities.sum((0, 1)).numpy()
    left, gone = session_of(name, place, ratio, target).run(None, {**feed, "sums": sums, **told})
    assert gone == removed(length, ratio)
    if not METHODS[VARIANTS[name].name].is_data_dependent:
        assert len(left) == BEFORE + length + AFTER - gone
    if gap < 1e-5:  # equal but for rounding: either choice is right, and so are equal lengths alone
        assert METHODS[VARIANTS[name].name].is_data_dependent or left.shape == wanted.shape
        return
    np.testing.assert_allclose(left, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("target", LOWERINGS)
@settings(max_examples=60)
@given(st.integers(0, 40), st.sampled_from(RATIOS), st.sampled_from([1, 2, 3, 7, 100]), st.data())
def test_each_segment_keeps_as_many_rows_and_ties_go_to_earlier_ones(target, length, ratio, segments, data):
    whole = st.integers(0, 3).map(float)  # exact, and often equal
    sums = np.array(data.draw(st.lists(whole, min_size=length, max_size=length)), np.float32)
    around = np.zeros(BEFORE, np.float32), np.zeros(AFTER, np.float32)
    feed, _ = inputs(length, 0, 1000)
    feed["rows"][:, 0] = np.arange(len(feed["rows"])) - BEFORE
    session = session_of("segment_evict", 1, ratio, target, segments)
    left, _ = session.run(None, {**feed, "sums": np.concatenate([around[0], sums, around[1]])})
    stays = left[BEFORE : len(left) - AFTER, 0].astype(int).tolist()
    kept = length - removed(length, ratio)
    assert len(stays) == kept
    assert stays == sorted(stays)
    for part in range(segments):
        rows = range(part * length // segments, (part + 1) * length // segments)
        mine = [row for row in rows if row in stays]
        assert len(mine) >= min(kept // segments, len(rows))
        assert len(mine) <= kept // segments + 1 or kept > segments * (len(rows) or 1)
        falling = sorted(rows, key=lambda row: (-sums[row], row))
        assert set(mine) == set(falling[: len(mine)])


@settings(max_examples=30)
@given(st.integers(0, 40), st.sampled_from([1, 2, 3, 7, 100]), st.integers(0, 2**32 - 1))
def test_ranks_by_counting_are_those_of_an_order(length, segments, seed):
    score = np.random.default_rng(seed).integers(0, 4, length).astype(np.float32)
    score[score == 3] = np.nan
    segment = ((np.arange(length) + 1) * segments - 1) // max(length, 1)
    found = []
    for lowering in (OnnxRuntimeLowering(), TensorRTLowering(FP32, 64)):
        g = Graph("ranks", None, lowering)
        g.input(TensorSpec("score", FLOAT, ("n",)))
        g.input(TensorSpec("segment", INT64, ("n",)))
        rank = lowering.segment_ranks(g, "/ranks", "score", "segment", segments)
        g.op("Identity", rank, outputs=["rank"])
        g.output(TensorSpec("rank", INT64, ("n",)))
        session = onnxruntime.InferenceSession(g.model().SerializeToString())
        found.append(session.run(None, {"score": score, "segment": segment})[0].tolist())
    assert found[0] == found[1]


@pytest.mark.parametrize("target", LOWERINGS)
@given(st.integers(1, 60), st.sampled_from(RATIOS))
def test_pooled_runs_differ_in_length_by_one_row_at_most(target, length, ratio):
    feed, probabilities = inputs(length, 1, 1000)
    feed["rows"][:, 0] = np.arange(len(feed["rows"])) - BEFORE
    session = session_of("uniform_merge", BEFORE_LAYERS, ratio, target)
    left, _ = session.run(None, {**feed, "sums": probabilities.sum((0, 1)).numpy()})
    means = left[BEFORE : len(left) - AFTER, 0]
    kept, first = length - removed(length, ratio), 0
    assert len(means) == kept
    lengths = []
    for mean in means:  # of first, first + 1, ...
        size = round(2 * (mean - first)) + 1
        lengths.append(size)
        first += size
    assert first == length
    assert max(lengths) - min(lengths) <= 1


def test_groups_become_their_means_and_what_is_like_another_group_goes():
    """In a plane: two alike rows, three alike ones, a row like the first group, and one across."""
    angles = np.radians([0.0, 10.0, 90.0, 90.0, 96.0, 4.0, 170.0])
    feed, probabilities = inputs(len(angles), 3, 1000)
    span = slice(BEFORE, -AFTER)
    feed["rows"][span] = 0
    feed["rows"][span, :2] = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    feed["sums"] = probabilities.sum((0, 1)).numpy()
    session = session_of("group_select", BEFORE_LAYERS, Fraction(4, 7), "onnxruntime")  # 3 rows stay
    left, _ = session.run(None, feed)
    rows = feed["rows"][span]
    np.testing.assert_allclose(left[span], [rows[:2].mean(0), rows[2:5].mean(0), rows[6]], atol=1e-6)
    np.testing.assert_array_equal(left[:BEFORE], feed["rows"][:BEFORE])
    session = session_of(
        "group_select", BEFORE_LAYERS, Fraction(2, 7), "onnxruntime"
    )  # 5 rows stay of 4 groups
    left, _ = session.run(None, feed)
    expected = [rows[0], rows[1], rows[2:5].mean(0), rows[5], rows[6]]  # 10 degrees are the weakest link
    np.testing.assert_allclose(left[span], expected, atol=1e-6)


def test_half_of_the_rows_are_the_means_of_pairs():
    feed, probabilities = inputs(8, 2, 1000)
    session = session_of("uniform_merge", BEFORE_LAYERS, Fraction(1, 2), "onnxruntime")
    left, _ = session.run(None, {**feed, "sums": probabilities.sum((0, 1)).numpy()})
    pairs = feed["rows"][BEFORE:-AFTER].reshape(4, 2, HIDDEN).mean(1)
    np.testing.assert_allclose(left[BEFORE:-AFTER], pairs, atol=1e-6)
    np.testing.assert_array_equal(left[:BEFORE], feed["rows"][:BEFORE])
