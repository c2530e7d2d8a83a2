"""The cost model follows its formulas, and the solver returns the smallest ratio that meets a target."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastadasp.profiles import (
    DecoderDims,
    Profile,
    ProfileError,
    decode_step_flops,
    flops_reduction,
    kv_bytes,
    layer_flops,
    layer_ratios,
    prefill_flops,
    profile_table,
    resolve,
    scoring_flops,
    token_counts,
)
from fastadasp.profiles.errors import InfeasibleError

QWEN_AUDIO_7B = DecoderDims(32, 4096, 32, 32, 128, 11008, 155947)
SPAN_30_SECONDS = 751
TINY = DecoderDims(
    num_layers=3, hidden_size=8, num_heads=4, num_kv_heads=2, head_dim=2, intermediate_size=12, vocab_size=30
)
STEP = Fraction(1, 10**6)


def _dense(schedule: str, start: int, percent: int) -> Profile:
    return Profile("x", "weighted_merge", schedule, start, flops_reduction=Fraction(percent, 100))


# Ratios for 10, 20, 30, 40 and 50 % on the dimensions of Qwen-Audio-7B, 20 text rows, 30 s of audio.
@pytest.mark.parametrize(
    ("schedule", "start", "digits", "ratios"),
    [
        ("single", 2, 3, [0.109, 0.217, 0.326, 0.437, 0.547]),
        ("single", 3, 3, [0.112, 0.225, 0.338, 0.451, 0.567]),
        ("constant", 2, 4, [0.0083, 0.0173, 0.0282, 0.0417, 0.0595]),
        ("decay", 2, 4, [0.0123, 0.0254, 0.0403, 0.0595, 0.0832]),
    ],
)
def test_solved_ratios_equal_the_table(schedule: str, start: int, digits: int, ratios: list[float]) -> None:
    solved = [
        resolve(_dense(schedule, start, percent), QWEN_AUDIO_7B, SPAN_30_SECONDS).ratio
        for percent in (10, 20, 30, 40, 50)
    ]
    assert [round(float(ratio), digits) for ratio in solved] == ratios


def test_layer_flops_are_twice_the_multiplications_of_every_product() -> None:
    n, left, d, q, k, m = 7, 5, 8, 8, 4, 12
    products = [
        n * d * q,  # queries
        n * d * k,  # keys
        n * d * k,  # values
        n * n * q,  # scores of all pairs
        n * n * q,  # their mixture of values
        n * q * d,  # output projection
        left * d * m,  # gate
        left * d * m,  # up
        left * m * d,  # down
    ]
    assert layer_flops(TINY, n, left) == 2 * sum(products)


def test_prefill_adds_the_head_of_one_row() -> None:
    layers = layer_flops(TINY, 9, 9) + layer_flops(TINY, 9, 6) + layer_flops(TINY, 6, 6)
    assert prefill_flops(TINY, [9, 9, 6], [9, 6, 6]) == layers + 2 * 8 * 30


def test_a_decode_step_costs_a_layer_of_one_row_over_its_cache() -> None:
    per_layer = layer_flops(TINY, 1, 1) - 4 * TINY.query_width
    lengths = [10, 10, 4]
    assert decode_step_flops(TINY, lengths) == 3 * per_layer + 4 * TINY.query_width * 24 + 2 * 8 * 30


def test_kv_bytes_count_keys_and_values_of_the_kv_heads() -> None:
    assert kv_bytes(TINY, [10, 10, 4], itemsize=2) == 2 * 2 * (2 * 2) * 24


def test_scoring_costs_one_more_product_of_queries_and_keys() -> None:
    assert scoring_flops(TINY, 9) == 2 * 9 * 9 * 8


def test_no_ratio_removes_nothing() -> None:
    assert flops_reduction(TINY, 50, 5, [Fraction(0)] * 3) == 0


def test_full_has_no_reducing_layers() -> None:
    resolved = resolve(Profile("full", "full"), TINY, 50)
    assert resolved.ratios == (Fraction(0),) * 3
    assert resolved.reducing_layers == ()
    assert resolved.has_static_lengths


def test_an_explicit_ratio_is_taken_as_it_is() -> None:
    profile = Profile("x", "fastv", "constant", 1, ratio=Fraction(1, 3))
    resolved = resolve(profile, TINY, 50)
    assert (resolved.name, resolved.method, resolved.ratio) == ("x", "fastv", Fraction(1, 3))
    assert resolved.ratios == (Fraction(0), Fraction(1, 3), Fraction(1, 3))
    assert resolved.reducing_layers == (1, 2)


def test_decay_does_not_merge_in_the_last_layer() -> None:
    resolved = resolve(Profile("x", "fastv", "decay", 0, ratio=Fraction(1, 2)), TINY, 50)
    assert resolved.reducing_layers == (0, 1)


def test_only_a_tome_has_lengths_that_depend_on_the_data() -> None:
    greedy, merged = (
        resolve(Profile("x", method, ratio=Fraction(1, 2)), TINY, 50)
        for method in ("a_tome", "weighted_merge")
    )
    assert not greedy.has_static_lengths
    assert merged.has_static_lengths


@settings(max_examples=60)
@given(
    st.sampled_from([("single", 0), ("single", 1), ("constant", 0), ("constant", 1), ("decay", 0)]),
    st.integers(2, 300),
    st.integers(0, 20),
    st.integers(1, 95),
)
def test_the_solver_returns_the_smallest_ratio_that_reaches_the_target(
    layout: tuple[str, int], span: int, text: int, percent: int
) -> None:
    schedule, start = layout
    target = Fraction(percent, 100)

    def reduction(ratio: Fraction) -> Fraction:
        return flops_reduction(TINY, span, text, layer_ratios(schedule, start, ratio, TINY.num_layers))

    profile = Profile(
        "x", "weighted_merge", schedule, start, flops_reduction=target, reference_text_tokens=text
    )
    try:
        ratio = resolve(profile, TINY, span).ratio
    except ProfileError:
        assert reduction(1 - STEP) < target
        return
    assert reduction(ratio) >= target > reduction(ratio - STEP)


def test_the_solver_finds_what_a_search_of_every_row_count_finds() -> None:
    span, target = 40, Fraction(30, 100)
    profile = Profile("x", "fastv", flops_reduction=target, reference_text_tokens=4)
    ratio = resolve(profile, TINY, span).ratio
    lengths = ([span + 4] + [rows + 4] * 2 for rows in range(span, 0, -1))
    costs = (prefill_flops(TINY, [n[0], n[1], n[2]], [n[1], n[1], n[2]]) for n in lengths)
    full = prefill_flops(TINY, [span + 4] * 3, [span + 4] * 3)
    removed_rows = next(count for count, cost in enumerate(costs) if 1 - Fraction(cost, full) >= target)
    assert span * ratio.numerator // ratio.denominator == removed_rows


def test_an_infeasible_target_tells_what_can_be_reached() -> None:
    message = "profile 'x': flops_reduction_percent 50 is infeasible, at most"
    with pytest.raises(InfeasibleError, match=message):
        resolve(_dense("single", 20, 50), QWEN_AUDIO_7B, SPAN_30_SECONDS)


def test_the_reachable_percentage_of_the_message_can_be_met() -> None:
    with pytest.raises(ProfileError) as caught:
        resolve(_dense("single", 20, 50), QWEN_AUDIO_7B, SPAN_30_SECONDS)
    percent = Fraction(str(caught.value).split("at most ")[1].split(" %")[0])
    profile = Profile("x", "weighted_merge", "single", 20, flops_reduction=percent / 100)
    assert resolve(profile, QWEN_AUDIO_7B, SPAN_30_SECONDS).ratio < 1


def test_a_single_row_cannot_be_reduced() -> None:
    with pytest.raises(ProfileError, match=r"at most 0\.00 %"):
        resolve(_dense("constant", 0, 10), TINY, 1)


def test_a_start_layer_that_the_model_lacks_names_profile_and_range() -> None:
    with pytest.raises(ProfileError, match=r"profile 'x': start_layer 3 is out of range.*0 to 2"):
        resolve(_dense("constant", 3, 10), TINY, 50)


def test_the_table_agrees_with_the_totals() -> None:
    resolved = resolve(Profile("x", "weighted_merge", "constant", 1, ratio=Fraction(1, 4)), TINY, 40)
    table = profile_table(resolved, TINY, span_rows=40, text_rows=5, itemsize=4)
    counts = token_counts(40, resolved.ratios)
    attention = [rows + 5 for rows in counts.attention]
    mlp = [rows + 5 for rows in counts.mlp]
    assert [(row.layer, row.attention_rows, row.mlp_rows, row.cached_rows) for row in table] == [
        (0, 45, 45, 45),
        (1, 45, 35, 45),
        (2, 35, 28, 35),
    ]
    assert [row.ratio for row in table] == [0, Fraction(1, 4), Fraction(1, 4)]
    assert sum(row.flops for row in table) + 2 * 8 * 30 == prefill_flops(TINY, attention, mlp)
    assert sum(row.kv_bytes for row in table) == kv_bytes(TINY, attention, 4)


def test_h2o_costs_a_full_prefill_and_caches_less() -> None:
    full, shorter = (
        profile_table(resolve(profile, TINY, 40), TINY, span_rows=40, text_rows=5, itemsize=4)
        for profile in (Profile("f", "full"), Profile("x", "h2o", "constant", 1, ratio=Fraction(3, 4)))
    )
    assert [(row.attention_rows, row.mlp_rows, row.cached_rows) for row in shorter] == [
        (45, 45, 45),
        (45, 45, 15),
        (45, 45, 15),
    ]
    assert [row.flops for row in shorter] == [row.flops for row in full]
    assert [row.kv_bytes for row in shorter] == [kv_bytes(TINY, [rows], 4) for rows in (45, 15, 15)]


def test_the_kv_budget_of_a_profile_is_one_sum() -> None:
    profiles = (
        Profile("f", "full"),
        Profile("m", "weighted_merge", "single", 0, ratio=Fraction(1, 2)),
        Profile("h", "h2o", "constant", 1, ratio=Fraction(1, 2)),
    )
    budgets = [sum(resolve(profile, TINY, 40).token_counts(40).cached) for profile in profiles]
    assert budgets == [120, 80, 80]


def test_h2o_removes_no_prefill_flops() -> None:
    resolved = resolve(Profile("x", "h2o", "constant", 1, ratio=Fraction(3, 4)), TINY, 40)
    assert flops_reduction(TINY, 40, 5, resolved.row_ratios) == 0
    merging = resolve(Profile("x", "weighted_merge", "constant", 1, ratio=Fraction(3, 4)), TINY, 40)
    assert merging.row_ratios == merging.ratios
