"""Where the full model takes longer than a profile: found to a percent, and said in words."""

from __future__ import annotations

import pytest

from fastadasp.export.prediction.break_even import lengths, pays_in_words

GRID = lengths(300.0)


def test_lengths_rise_from_a_second_to_the_longest_audio():
    assert GRID[0] == 1.0
    assert GRID[-1] == 300.0
    assert sorted(set(GRID)) == list(GRID)
    assert lengths(0.5) == (0.5,)


@pytest.mark.parametrize(
    ("speed_up", "words"),
    [
        (lambda seconds: 1.1, "always"),
        (lambda seconds: 1.0, "never"),
        (lambda seconds: 0.9 + 0.01 * seconds, "from 10 s on"),
        (lambda seconds: 1.2 - 0.01 * seconds, "up to 20 s"),
        (lambda seconds: 1.1 if 20 < seconds < 100 else 0.9, "from 20 to 100 s"),
        (lambda seconds: 0.9 if 20 < seconds < 100 else 1.1, "up to 20 s, from 100 s on"),
    ],
)
def test_a_change_of_sign_is_found(speed_up, words):
    said = pays_in_words(speed_up, GRID)
    for one, other in zip(said.split(), words.split(), strict=True):
        assert one == other or float(one.rstrip(",")) == pytest.approx(float(other.rstrip(",")), rel=0.02)
