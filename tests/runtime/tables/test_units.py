"""Numbers in tables: none that is there is shown as none."""

from __future__ import annotations

import pytest

from fastadasp.runtime.tables.units import rate


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0.0"), (0.0123, "0.012"), (0.049, "0.049"), (0.06, "0.1"), (12.34, "12.3"), (461.4, "461")],
)
def test_a_small_number_keeps_its_digits(value, shown):
    assert rate(value) == shown
