"""The rows of layers put together, against sets of rows that are kept one by one; and what cannot be."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastadasp.profiles.errors import EngineError
from fastadasp.profiles.flops import ResolvedProfile
from fastadasp.profiles.profile import Profile
from fastadasp.profiles.schedule import BEFORE_LAYERS
from fastadasp.runtime.alignment.row_map import PromptRows, row_map

BOUNDARIES = tuple(0.04 * i for i in range(200))


def resolved(method: str, layers: int) -> ResolvedProfile:
    schedule = "input" if method == "group_select" else "constant"
    profile = Profile("own", method, schedule, 0, ratio=Fraction(1, 2))
    return ResolvedProfile(profile, Fraction(1, 2), (Fraction(1, 2),) * layers)


def prompt_of(before: int, tokens: int, after: int, bos_rows: int = 0) -> PromptRows:
    return PromptRows(before, tokens + bos_rows, after, BOUNDARIES[: tokens + 1], bos_rows)


def spans(own: list[list[int]], prompt: PromptRows) -> list[tuple[float, float]]:
    """Seconds of each row that has audio in it."""
    offset, tokens = prompt.before + prompt.bos_rows, len(prompt.boundaries) - 1
    audio = [[row - offset for row in rows if 0 <= row - offset < tokens] for rows in own]
    return [(BOUNDARIES[rows[0]], BOUNDARIES[rows[-1] + 1]) for rows in audio if rows]


@given(st.data())
def test_layers_are_put_together_as_sets_of_rows_are(data: st.DataObject) -> None:
    method = data.draw(st.sampled_from(["weighted_merge", "fastv"]))
    sizes = [data.draw(st.integers(0, most)) for most in (5, 60, 5, 2)]
    prompt = prompt_of(*sizes)
    own = [[row] for row in range(prompt.before + prompt.audio + prompt.after)]
    sources, expected = {}, []
    for layer in range(data.draw(st.integers(1, 5))):
        expected.append(spans(own, prompt))
        if not data.draw(st.booleans()):
            continue
        begins = [data.draw(st.booleans()) for _ in own]
        if method == "fastv":
            kept = [[row] for row, keeps in enumerate(begins) if keeps]
        else:
            kept = []
            for row, begins_one in enumerate(begins):
                if begins_one or not kept:
                    kept.append([])
                kept[-1].append(row)
        means = [np.float32(np.float32(1 / len(rows)) * np.float32(sum(rows))) for rows in kept]
        sources[layer] = np.array(means, np.float32)
        own = [[row for each in rows for row in own[each]] for rows in kept]
    found = row_map(resolved(method, len(expected)), prompt, sources)
    assert [list(zip(each.starts, each.ends, strict=True)) for each in found] == expected
    for each in found:
        times = [time for row in zip(each.starts, each.ends, strict=True) for time in row]
        assert times == sorted(times)


def test_heads_keep_rows_of_their_own_and_hand_all_of_them_on() -> None:
    sources = {0: np.array([[0.0, 2.0], [1.0, 2.0]], np.float32)}
    found = row_map(resolved("h2o", 2), prompt_of(0, 3, 0), sources)
    assert [(each.layer, each.head, each.starts) for each in found] == [
        (0, 0, (0.0, 0.08)),
        (0, 1, (0.04, 0.08)),
        (1, None, (0.0, 0.04, 0.08)),
    ]


def test_a_row_with_text_and_audio_in_it_stands_for_the_audio() -> None:
    found = row_map(resolved("average_merge", 2), prompt_of(2, 3, 1), {0: np.array([0.0, 2.0, 4.0, 5.0])})
    assert [(each.starts, each.ends) for each in found] == [
        ((0.0, 0.04, 0.08), (0.04, 0.08, 0.12)),
        ((0.0, 0.08), (0.08, 0.12)),
    ]


def test_groups_of_which_some_stay_leave_gaps() -> None:
    told = np.array([[0, 1, 3, 6, 7], [0, 2, 3, 6, 7]], np.float32)
    found = row_map(resolved("group_select", 2), prompt_of(1, 6, 1), {BEFORE_LAYERS: told})
    assert [(each.starts, each.ends) for each in found] == [((0.0, 0.08, 0.2), (0.08, 0.12, 0.24))] * 2


@pytest.mark.parametrize(
    "told", [[[0, 1], [1, 1]], [[0, 2], [0, 4]], [[1, 0], [1, 0]], [[2], [1]], [[-1], [0]], [[0, 0], [0, 0]]]
)
def test_groups_that_are_not_in_order_are_refused(told: list[list[int]]) -> None:
    with pytest.raises(EngineError, match=r"groups that a layer keeps .* in order"):
        row_map(resolved("group_select", 2), prompt_of(1, 2, 1), {BEFORE_LAYERS: np.array(told)})


@pytest.mark.parametrize("method", ["average_merge", "fastv"])
@pytest.mark.parametrize("told", [[], [0.0, 1.0], [0.0, 1.0, 2.0, 7.0], [0.0, 2.0, 1.0, 3.0], [-1.0, 5.0]])
def test_rows_that_do_not_add_up_are_refused(method: str, told: list[float]) -> None:
    if method == "fastv" and told in ([], [0.0, 1.0]):
        return  # it may keep these
    with pytest.raises(EngineError, match="in order"):
        row_map(resolved(method, 2), prompt_of(1, 2, 1), {0: np.array(told)})
