"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction

ABSENT = "-"
LEAST_TENTH = 0.05  # what is rounded to a tenth becomes 0.0 below it
STEPS = ("B", "kB", "MB", "GB", "TB")


def milliseconds(value: float | None) -> str:
    """Milliseconds: 0.52, 12.3, 1234."""
    if value is None:
        return ABSENT
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 1000 else f"{value:.0f}"


def factor(value: float | None) -> str:
    """A real-time factor: 0.025, 40.7, 1234."""
    if value is None:
        return ABSENT
    return f"{value:.3f}" if value < 10 else f"{value:.1f}" if value < 1000 else f"{value:.0f}"


def rate(value: float | None) -> str:
    """A number without needless decimals: 0.034, 12.3, 461."""
    if value is None:
        return ABSENT
    if 0 < value < LEAST_TENTH:
        return f"{value:.2g}"
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def percent(share: float | None) -> str:
    """A share of 1 as percent."""
    return ABSENT if share is None else f"{100 * share:.1f} %"


def in_percent(share: Fraction) -> str:
    """A share of 1 in percent, with all its decimals and without the sign: 50, 12.5; a third in 28."""
    percents = 100 * share
    return f"{(Decimal(percents.numerator) / percents.denominator).normalize():f}"


def size(num_bytes: float | None) -> str:
    """Bytes in decimal units: 5.4 kB."""
    if num_bytes is None:
        return ABSENT
    unit = next((i for i in range(len(STEPS) - 1) if num_bytes < 1000 ** (i + 1)), len(STEPS) - 1)
    return f"{num_bytes / 1000**unit:.1f} {STEPS[unit]}" if unit else f"{num_bytes:.0f} B"


def seconds(value: float) -> str:
    """Seconds with the decimals that matter: 240, 12.34, 0.001."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if value >= 0.01 else f"{value:.2g}"


def ranges(numbers: Iterable[int]) -> str:
    """Sorted whole numbers in short: 0, 2-5."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
