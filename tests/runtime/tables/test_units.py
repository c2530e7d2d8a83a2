"""Numbers in tables: none that is there is shown as none."""

from __future__ import annotations

from fractions import Fraction

import pytest

from fastadasp.runtime.tables.units import in_percent, rate, seconds


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0.0"), (0.0123, "0.012"), (0.049, "0.049"), (0.06, "0.1"), (12.34, "12.3"), (461.4, "461")],
)
def test_a_small_number_keeps_its_digits(value, shown):
    assert rate(value) == shown


@pytest.mark.parametrize("shown", ["50", "12.5", "7", "0.00001", "33.3333331", "33.3333332", "99.999999999"])
def test_a_share_in_percent_has_all_its_decimals(shown):
    assert in_percent(Fraction(shown) / 100) == shown


def test_a_share_without_an_end_is_cut():
    assert in_percent(Fraction(1, 3)) == f"33.{26 * '3'}"


@pytest.mark.parametrize(
    ("value", "text"),
    [(240.0, "240"), (12.34, "12.34"), (0.5, "0.5"), (0.01, "0.01"), (0.001, "0.001"), (0.0, "0")],
)
def test_seconds_are_never_rounded_to_none(value, text):
    assert seconds(value) == text
