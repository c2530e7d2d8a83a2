"""Efficiencies that made some times are found again from these times."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fastadasp.export.prediction.calibration import Measured, fitted
from fastadasp.export.prediction.devices import GPU_EFFICIENCY, efficiency_of
from fastadasp.export.prediction.roofline import Ceilings, Efficiency, Work, pass_ms

CEILINGS = Ceilings(300e12, 300e12, 2e12)
KNOWN = efficiency_of(GPU_EFFICIENCY)
PREFILLS = tuple(Work(seconds * 2e11, seconds * 1e10, 14e9 + seconds * 1e8, 32) for seconds in (30, 120, 240))
STEPS = tuple(Work(beams * 13e9, 1e8, 14e9 + 1e9 * beams, 32, beams=beams) for beams in (1, 5))


def measured(efficiency: Efficiency, works: tuple[Work, ...]) -> list[Measured]:
    return [Measured(work, pass_ms(work, CEILINGS, efficiency)) for work in works]


@pytest.mark.parametrize(
    "true",
    [
        replace(KNOWN, compute=0.35),
        replace(KNOWN, memory=0.9, compute=0.75),
        replace(KNOWN, compute=0.11, memory=0.07),
        replace(KNOWN, **{name: 3 * getattr(KNOWN, name) for name in ("pass_ms", "layer_ms", "beam_ms")}),
    ],
)
def test_known_efficiencies_are_recovered(true):
    found = fitted(measured(true, PREFILLS + STEPS), CEILINGS, KNOWN)
    assert found.compute == pytest.approx(true.compute, rel=0.02)
    assert found.memory == pytest.approx(true.memory, rel=0.05)
    for each in measured(true, PREFILLS + STEPS):
        assert pass_ms(each.work, CEILINGS, found) == pytest.approx(each.milliseconds, rel=0.02)


def test_times_that_meet_the_prediction_change_nothing():
    found = fitted(measured(KNOWN, PREFILLS + STEPS), CEILINGS, KNOWN)
    assert vars(found) == pytest.approx(vars(KNOWN))


def test_what_times_do_not_determine_stays_as_it_was_known():
    slow = replace(KNOWN, memory=0.4)
    no_work = Work(0.0, 0.0, 1e12, 0)
    found = fitted([Measured(no_work, pass_ms(no_work, CEILINGS, slow))], CEILINGS, KNOWN)
    assert found.memory == pytest.approx(0.4, rel=0.01)
    assert found.compute == KNOWN.compute


def test_no_part_of_a_time_becomes_negative():
    found = fitted([Measured(work, 1e-6) for work in STEPS], CEILINGS, KNOWN)
    assert min(found.compute, found.memory) > 0
    assert min(vars(found).values()) == 0  # what is fixed can be nothing
