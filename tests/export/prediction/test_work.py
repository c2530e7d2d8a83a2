"""Counts and times of a decoder of 7B, by hand; and what must hold for any request."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest

from fastadasp.export.prediction.devices import DEVICES, GPU_EFFICIENCY, efficiency_of
from fastadasp.export.prediction.roofline import Ceilings, Efficiency, compute_ms, memory_ms, pass_ms
from fastadasp.export.prediction.work import (
    CPU_KERNELS,
    GPU_KERNELS,
    PACKING_PASSES,
    Kernels,
    Request,
    Sizes,
    held_kv_bytes,
    prefill_work,
    step_work,
)
from fastadasp.profiles.flops import DecoderDims, decode_step_flops, resolve, scoring_flops
from fastadasp.profiles.profile import Profile, builtin_names, load_profile

DIMS = DecoderDims(32, 4096, 32, 32, 128, 11008, 32000)
LAYERS = 32 * (4 * 4096 * 4096 + 3 * 4096 * 11008)  # weights
HEAD = 4096 * 32000
FP16 = Sizes(DIMS, 2.0 * (LAYERS + HEAD), 2.0 * (LAYERS + 2 * HEAD), 2.0 * (LAYERS + 2 * HEAD), 2)
A100 = Ceilings(312e12, 312e12, DEVICES["a100"].bytes_a_second)
KV_ROW = 32 * 2 * 4096 * 2  # bytes of a row in all layers
ALL_ROWS = Kernels(fused_attention=True, whole_last_layer=True)
EFFICIENCY, IDEAL = efficiency_of(GPU_EFFICIENCY), Efficiency(1.0, 1.0, 0.0, 0.0, 0.0, 0.0)


def request(profile: str = "full", rows: int = 3000, beams: int = 1, text: int = 60) -> Request:
    return Request(resolve(load_profile(profile), DIMS, 375), rows, text, beams)


def test_a_step_of_7b_reads_the_weights_and_the_prompt_once_for_all_beams():
    work = step_work(FP16, request(beams=5), 0, GPU_KERNELS)
    assert work.bytes == 2 * (LAYERS + HEAD) + 3060 * KV_ROW
    assert work.bytes == pytest.approx(13.5e9 + 1.6e9, rel=0.03)
    assert memory_ms(work, A100) == pytest.approx(1e3 * (13.5e9 + 1.6e9) / 2.04e12, rel=0.03)
    assert pass_ms(work, A100, IDEAL) == pytest.approx(memory_ms(work, A100), rel=0.05)


def test_a_prompt_for_each_beam_is_read_and_prefilled_once_a_beam():
    per_beam, asked = replace(ALL_ROWS, shared_prompt=False), request(beams=5)
    step, shared = (step_work(FP16, asked, 0, kernels) for kernels in (per_beam, ALL_ROWS))
    assert step.bytes - shared.bytes == 4 * 3060 * KV_ROW
    assert held_kv_bytes(FP16, asked, 0, per_beam) == pytest.approx(7.9e9, rel=0.02)
    assert step.bytes / shared.bytes == pytest.approx(1.4, rel=0.03)
    prefill, once = (prefill_work(FP16, asked, kernels) for kernels in (per_beam, ALL_ROWS))
    assert prefill.flops == 5 * once.flops


def test_what_merges_in_pairs_is_held_at_its_longest_and_computed_at_its_shortest():
    pairs, fixed = (
        Profile("half", name, "constant", 0, ratio=Fraction(1, 2)) for name in ("a_tome", "fastv")
    )
    dims = replace(DIMS, num_layers=3)
    sizes = replace(FP16, dims=dims)
    asked, same = (Request(resolve(profile, dims, 375), 1001, 60) for profile in (pairs, fixed))
    row, rows = 2 * 4096 * 2, (1001, 751, 563)  # 500, then 375 edges, of which 250 and 188 pairs at least
    assert held_kv_bytes(sizes, asked, 0, GPU_KERNELS) == (sum(rows) + 3 * 60) * row
    assert held_kv_bytes(sizes, same, 0, GPU_KERNELS) == (1001 + 501 + 251 + 3 * 60) * row
    assert step_work(sizes, asked, 0, GPU_KERNELS) == step_work(sizes, same, 0, GPU_KERNELS)


def test_every_row_that_a_beam_has_generated_is_in_the_cache():
    held = (held_kv_bytes(FP16, request(beams=5), tokens, GPU_KERNELS) for tokens in (0, 64))
    before, after = held
    assert after - before == 5 * 64 * KV_ROW


def test_a_prefill_of_240_s_at_half_the_rate_of_tokens_is_41_tflop():
    work = prefill_work(FP16, request(rows=3000, text=0), ALL_ROWS)
    assert work.linear_flops == 2 * 3000 * LAYERS + 2 * HEAD
    assert work.attention_flops == 32 * 2 * 3000**2 * 4096  # half of the scores, and of what they weigh
    assert round(work.flops / 1e12) == 41
    assert compute_ms(work, A100) == pytest.approx(132, rel=0.01)
    assert pass_ms(work, A100, IDEAL) == compute_ms(work, A100) + memory_ms(work, A100)


def test_one_row_goes_through_all_of_the_last_layer():
    whole, ours = (prefill_work(FP16, request(), kernels) for kernels in (ALL_ROWS, GPU_KERNELS))
    layer = LAYERS // 32
    assert whole.linear_flops - ours.linear_flops == 2 * 3059 * (layer - 2 * 4096 * 4096)
    one_row = decode_step_flops(DIMS, [3060]) - decode_step_flops(DIMS, [0])
    assert whole.attention_flops - ours.attention_flops == 2 * 3060**2 * 4096 - one_row


def test_what_the_sums_over_scores_cost_depends_on_where_scores_are():
    reduced = request("sparse-50")
    (layer,) = reduced.resolved.reducing_layers
    silent = replace(reduced.resolved, profile=load_profile("full"))
    for kernels in (GPU_KERNELS, CPU_KERNELS):
        work = prefill_work(FP16, reduced, kernels)
        without = prefill_work(FP16, replace(reduced, resolved=silent), kernels)
        flops, moved = work.flops - without.flops, work.bytes - without.bytes
        scores = 3060**2 / 2 * 32 * 2
        expected = (scoring_flops(DIMS, 3060) / 2, 0) if kernels is GPU_KERNELS else (0, scores)
        assert (flops, moved) == expected, layer


def test_a_prefill_that_packs_weights_takes_as_long_as_more_passes_over_them():
    plain, packing = (
        prefill_work(FP16, request(), Kernels(fused_attention=True, packs_weights=packs))
        for packs in (False, True)
    )
    assert packing.bytes - plain.bytes == PACKING_PASSES * FP16.read_bytes


@pytest.mark.parametrize("profile", builtin_names())
@pytest.mark.parametrize("kernels", [GPU_KERNELS, CPU_KERNELS])
def test_longer_audio_and_more_beams_are_never_faster(profile, kernels):
    def times(asked):
        works = prefill_work(FP16, asked, kernels), step_work(FP16, asked, 32, kernels)
        return [pass_ms(work, A100, EFFICIENCY) for work in works]

    for shorter, longer in pairwise(range(0, 3000, 137)):
        for before, after in zip(
            times(request(profile, shorter)), times(request(profile, longer)), strict=True
        ):
            assert before <= after
    for fewer, more in pairwise(range(1, 9)):
        before, after = (times(request(profile, 750, beams)) for beams in (fewer, more))
        assert before[0] == after[0]
        assert before[1] < after[1]


@pytest.mark.parametrize("profile", builtin_names())
def test_a_reduced_prefill_computes_no_more_than_the_full_one_but_for_the_sums(profile):
    for rows in range(1, 3000, 137):
        full, asked = request("full", rows), request(profile, rows)
        silent = replace(asked.resolved, profile=load_profile("full"))
        reduced = prefill_work(FP16, replace(asked, resolved=silent), GPU_KERNELS)
        whole = prefill_work(FP16, full, GPU_KERNELS)
        assert compute_ms(reduced, A100) <= compute_ms(whole, A100)
        with_sums = prefill_work(FP16, asked, GPU_KERNELS)
        most = len(asked.resolved.reducing_layers) * scoring_flops(DIMS, rows + 60) / 2
        assert with_sums.flops - reduced.flops <= most
