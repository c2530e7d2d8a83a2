"""The bisection alone, over made-up losses."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from fastadasp.export.studies.tune.search import highest_feasible

LOSSES = st.lists(st.integers(-3, 9), max_size=9)
BUDGET = st.integers(-1, 8)


def search(ladders, budget):
    """What is found, as (ladder, rung), and the rungs of each round."""
    rungs = [[(i, j) for j in range(len(losses))] for i, losses in enumerate(ladders)]
    rounds = []

    def judge(candidates):
        rounds.append(list(candidates))
        return [ladders[i][j] <= budget for i, j in candidates]

    return highest_feasible(rungs, judge), rounds


@given(st.lists(LOSSES.map(sorted), max_size=4), BUDGET)
def test_losses_that_grow_with_the_level_give_the_optimum_of_the_grid(ladders, budget):
    found, _ = search(ladders, budget)
    for i, losses in enumerate(ladders):
        within = [j for j, loss in enumerate(losses) if loss <= budget]
        assert found[i] == ((i, max(within)) if within else None)


@given(st.lists(LOSSES, max_size=4), BUDGET)
def test_losses_in_any_order_never_give_an_infeasible_level(ladders, budget):
    found, rounds = search(ladders, budget)
    tried = {rung for candidates in rounds for rung in candidates}
    for rung in found:
        if rung is not None:
            assert rung in tried
            assert ladders[rung[0]][rung[1]] <= budget


@given(st.lists(LOSSES, max_size=4), BUDGET)
def test_a_round_takes_one_level_of_every_open_ladder_and_no_level_twice(ladders, budget):
    _, rounds = search(ladders, budget)
    tried = [rung for candidates in rounds for rung in candidates]
    assert len(tried) == len(set(tried))
    assert all(len({i for i, _ in candidates}) == len(candidates) > 0 for candidates in rounds)
    longest = max(map(len, ladders), default=0)
    assert len(rounds) <= math.ceil(math.log2(longest + 1))
