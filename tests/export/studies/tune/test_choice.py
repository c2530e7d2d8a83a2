"""The choice among candidates within the budget, from made-up figures."""

from __future__ import annotations

from fractions import Fraction

import pytest

from fastadasp.evaluation.figures.loss import Loss
from fastadasp.evaluation.figures.profile_scores import ProfileScores
from fastadasp.export.studies.tune.choice import MOST_FINALISTS, choose, finalists_of
from fastadasp.export.studies.tune.ladders import Candidate
from fastadasp.export.studies.tune.rounds import Tried, is_within
from fastadasp.export.studies.tune.timing import FIGURE, Timing
from fastadasp.profiles.profile import Profile
from fastadasp.runtime.benchmark.records import Benchmark, BenchmarkProtocol, Case, Spread
from fastadasp.runtime.environment import environment

FULL_KV = 100.0


def tried(name, flops, kv, loss=0.0, positions="compact"):
    """Of the level in tenths that its FLOPs round down to."""
    profile = Profile(name, "weighted_merge", ratio=Fraction(1, 2), positions=positions)
    scores = ProfileScores(name, (), kept_ratio=0.5, flops_reduction=flops, cut_off=0)
    level = Fraction(int(10 * flops + 1e-9), 10)
    return Tried(Candidate(profile, level), 1, scores, kv, Loss(loss), feasible=True)


def timing(**medians):
    cases = tuple(
        Case(1, 4.0, name, 1, figures={FIGURE: Spread(value, value, value)})
        for name, value in medians.items()
    )
    protocol = BenchmarkProtocol((*medians,), (1,), (4.0,), None, None, 6, 1, 0, 0, "noise", "run")
    return Timing(Benchmark({}, protocol, environment(1), cases))


ONE, OTHER = tried("one", 0.4, 70.0, loss=0.2), tried("other", 0.3, 50.0)


def test_each_objective_chooses_by_its_own_figure():
    assert choose("flops", [ONE, OTHER], FULL_KV, None).tried is ONE
    assert choose("kv", [ONE, OTHER], FULL_KV, None).tried is OTHER
    assert choose("latency", [ONE, OTHER], FULL_KV, timing(full=9.0, one=8.0, other=7.0)).tried is OTHER


def test_of_equals_the_one_that_loses_less_is_chosen():
    gentle = tried("gentle", 0.4, 70.0, loss=0.1)
    assert choose("flops", [ONE, gentle], FULL_KV, None).tried is gentle


def test_of_one_level_the_one_that_loses_less_is_chosen_whatever_rounding_to_whole_rows_has_saved():
    costly, harmless = tried("costly", 0.406, 70.0, loss=4.55), tried("harmless", 0.401, 71.0)
    for objective in ("flops", "kv"):
        assert choose(objective, [costly, harmless], FULL_KV, None).tried is harmless
    assert finalists_of([costly, harmless]) == [harmless, costly]


def test_a_higher_level_and_clearly_fewer_bytes_go_before_the_loss():
    high, low = tried("high", 0.40, 69.0, loss=4.55), tried("low", 0.39, 71.0)
    for objective in ("flops", "kv"):
        assert choose(objective, [low, high], FULL_KV, None).tried is high
    assert finalists_of([low, high]) == [high, low]


@pytest.mark.parametrize("objective", ["flops", "kv"])
def test_of_equals_kept_positions_go_first_then_what_saves_most(objective):
    compact, kept = (tried(kind, 0.41, 70.0, positions=kind) for kind in ("compact", "kept"))
    less = tried("less", 0.40, 70.5, positions="kept")
    assert choose(objective, [compact, less, kept], FULL_KV, None).tried is kept
    assert choose(objective, [compact, less], FULL_KV, None).tried is less
    assert finalists_of([compact, kept]) == [kept, compact]


def test_what_is_no_better_than_full_is_not_chosen_for_its_level_or_its_loss():
    more, fewer = tried("more", 0.4, FULL_KV, loss=0.0), tried("fewer", 0.3, 99.5, loss=1.0)
    assert choose("kv", [more, fewer], FULL_KV, None).tried is fewer


@pytest.mark.parametrize(
    ("objective", "within", "reason"),
    [
        ("flops", [], "no candidate is within the budget"),
        ("flops", [tried("a", 0.0, 1.0)], "takes fewer FLOPs than full"),
        ("kv", [tried("a", 0.4, FULL_KV)], "keeps fewer KV bytes than full"),
        ("latency", [tried("a", 0.4, 1.0)], "is faster than full"),
    ],
)
def test_without_anything_better_than_full_nothing_is_chosen(objective, within, reason):
    choice = choose(objective, within, FULL_KV, timing(full=9.0, a=9.0))
    assert choice.tried is None
    assert reason in choice.reason


def test_finalists_are_the_few_of_the_highest_levels():
    within = [tried(f"p{i}", i / 10, 1.0) for i in range(6)]
    assert finalists_of(within) == within[:1:-1]
    assert len(finalists_of(within)) == MOST_FINALISTS


def test_a_loss_that_is_the_budget_but_for_rounding_is_within_it():
    assert is_within(Loss(0.1 + 0.2), 0.3)
    assert not is_within(Loss(0.31), 0.3)
