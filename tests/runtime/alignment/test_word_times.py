"""Where a step looks, the way of an answer through its steps, and words of tokens."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from fastadasp.runtime.alignment.row_map import LayerRows
from fastadasp.runtime.alignment.word_times import Looks, Word, looked_at, share_within, words_of
from fastadasp.runtime.decoding.scoring import Ids
from fastadasp.runtime.decoding.search import TopTokens
from fastadasp.runtime.requests.answer import _words


def rows_of(*boundaries: float) -> LayerRows:
    return LayerRows(0, None, boundaries[:-1], boundaries[1:])


@pytest.mark.parametrize(
    ("attention", "expected"),
    [
        ([0, 0, 1, 0, 0], (2, 3)),
        ([0, 0.3, 1, 0.3, 0], (1, 4)),
        ([0.5, 0.1, 1, 0.1, 0.5], (2, 3)),  # what is apart does not belong to it
        ([1, 0.5, 0.5, 0.5, 0.5], (0, 5)),
        ([0, 0, 0, 0, 1], (4, 5)),
    ],
)
def test_rows_beside_the_highest_belong_to_it(attention: list[float], expected: tuple[float, float]) -> None:
    assert looked_at(np.array(attention), rows_of(0, 1, 2, 3, 4, 5)) == expected


def test_attention_counts_by_the_second() -> None:
    """A row of four seconds with twice the attention of one of a second is looked at less."""
    assert looked_at(np.array([2.0, 0.0, 1.0]), rows_of(0, 4, 5, 6)) == (5, 6)


def test_rows_of_no_seconds_are_not_looked_at() -> None:
    """Of a short clip, those of the silence that fills it up."""
    with np.errstate(all="raise"):
        assert looked_at(np.array([0.3, 0.05, 0.4, 0.5]), rows_of(0, 1, 2, 2, 2)) == (0, 1)


def test_a_row_that_the_end_of_the_audio_cuts_is_not_looked_at_for_its_shortness() -> None:
    assert looked_at(np.array([0.9, 0.05, 0.05]), rows_of(0, 0.08, 0.16, 0.1601)) == (0, 0.08)


def test_the_scale_is_of_no_matter() -> None:
    attention, rows = np.array([0.1, 0.7, 0.2]), rows_of(0, 0.04, 0.08, 0.4)
    assert looked_at(attention, rows) == looked_at(5 * attention, rows) == (0.04, 0.08)


class Numbered:
    """A decoder whose row i of step s looks at 10 s + i."""

    def __init__(self) -> None:
        self.steps = 0

    def start(self, k: int) -> TopTokens:
        return self._top(1)

    def step(self, tokens: Ids, parents: Ids, k: int) -> TopTokens:
        return self._top(len(tokens))

    def _top(self, rows: int) -> TopTokens:
        looks = 10.0 * self.steps + np.arange(rows, dtype=np.float32)[:, None]
        self.steps += 1
        return TopTokens(np.zeros((rows, 1)), np.zeros((rows, 1), np.int64), np.zeros(rows), looks)


def test_an_answer_is_followed_through_the_rows_that_wrote_it() -> None:
    """Two beams begin with 5 and 6; both go on from 6 with 7 and 5; then 7 from the row with 5 alone."""
    looks = Looks(Numbered())
    looks.start(2)
    for tokens, parents in (([5, 6], [0, 0]), ([7, 5], [1, 1]), ([7, 7], [0, 1])):
        looks.step(np.array(tokens), np.array(parents), 2)
    followed = [[look.item() for look in looks.of(tokens)] for tokens in ((5,), (6, 5, 7, 9), (6, 7))]
    assert followed == [[0], [0, 11, 21, 31], [0, 11]]


def test_words_begin_with_their_first_tokens() -> None:
    texts = ["", "thir", "thirteen", "thirteen", "thirteen days, f", "thirteen days, five"]
    sure = [*[True] * 4, False, True]
    assert words_of(texts, [1, 2, 3, 4, 5, 6], sure) == (
        Word("thirteen", 2, True),
        Word("days,", 5, False),
        Word("five", 5, False),
    )
    assert words_of([], [], []) == ()


@pytest.mark.parametrize(
    ("begins", "sure", "expected"),
    [
        ((1, 2, 3), (1, 1, 1), (1, 1, 1)),
        ((1, 2, 3), (1, 0, 1), (1, 0, 1)),
        ((1, 9, 2, 3), (1, 1, 1, 1), (1, 0, 1, 1)),  # one that is out of order spoils no other
        ((1, 2, 3, 1), (1, 1, 1, 1), (1, 1, 1, 0)),
        ((1, 2, 2, 3), (1, 0, 1, 1), (1, 0, 1, 1)),
        ((1, 9, 2, 3), (1, 1, 0, 0), (1, 1, 0, 0)),  # and no one that is not sure
    ],
)
def test_times_that_are_unsure_or_out_of_order_are_told_without_confidence(
    begins: tuple[float, ...], sure: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    texts = [" ".join("abcd"[: i + 1]) for i in range(len(begins))]
    found = words_of(texts, begins, list(map(bool, sure)))
    assert [word.confident for word in found] == list(map(bool, expected))


def test_of_two_words_with_one_time_at_most_one_is_told_with_confidence() -> None:
    found = words_of(["a", "a b", "a b c"], [1, 2, 2], [True, True, True])
    assert sum(word.confident for word in found) == 2


def test_rows_of_no_seconds_are_no_part_of_what_is_looked_at() -> None:
    """Though they stand at the end of the audio, where a span may end as well."""
    attention, rows = np.array([0.1, 0.2, 0.35, 0.35]), rows_of(0, 1, 2, 2, 2)
    assert looked_at(attention, rows) == (0, 2)
    assert share_within(attention, rows, (0, 2)) == pytest.approx(0.3)


def test_the_share_of_what_is_looked_at_is_that_of_its_rows() -> None:
    attention, rows = np.array([0.1, 0.3, 0.2, 0.4]), rows_of(0, 1, 2, 4, 5)
    assert share_within(attention, rows, (1, 4)) == pytest.approx(0.5)
    assert share_within(5 * attention, rows, (0, 5)) == pytest.approx(1)
    assert share_within(0 * attention, rows, (0, 5)) == 0


def test_an_answer_has_no_words_where_no_row_of_audio_is_left() -> None:
    """A profile may leave the row alone that stands before the audio."""
    decoder = SimpleNamespace(word_heads=SimpleNamespace(layer=0))
    front_end = SimpleNamespace(eos_rows=0)
    model = SimpleNamespace(manifest=SimpleNamespace(decoder=decoder, front_end=front_end), codec=object())
    found = SimpleNamespace(
        row_map=(LayerRows(0, None, (), ()),),
        prefix_lengths=(3,),
        hypotheses=(SimpleNamespace(tokens=(5,)),),
    )
    request = SimpleNamespace(rows_after=1, looks=Looks(Numbered()))
    assert _words(cast("Any", model), cast("Any", request), cast("Any", found)) is None
