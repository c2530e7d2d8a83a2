"""The published table of latencies and what it implies of the code behind it."""

from __future__ import annotations

import pytest

from fastadasp.export.prediction.published import Published


@pytest.fixture(scope="module")
def times():
    return list(Published().times())


def test_the_rows_are_those_of_the_table(times):
    assert len(times) == 8
    first = times[0]
    assert (first.beams, first.audio_seconds, first.profile) == (1, 120, "full")
    assert (first.prefill_ms, first.decode_ms) == (790.0, 5750.0)
    assert first.step_ms == pytest.approx(1e3 / 12.86)


def test_a_prompt_for_each_beam_explains_the_steps_and_those_of_the_full_prefill(times):
    for row in times:
        assert row.per_beam_step_ms == pytest.approx(row.step_ms, rel=0.25)
        if row.profile == "full":
            assert row.per_beam_prefill_ms == pytest.approx(row.prefill_ms, rel=0.2)


def test_beams_that_share_a_prompt_hold_it_once(times):
    for row in times:
        if row.beams == 1:
            assert row.per_beam_kv_bytes == row.shared_kv_bytes
        else:
            assert row.per_beam_kv_bytes > 3.5 * row.shared_kv_bytes
            assert row.shared_step_ms < 0.75 * row.per_beam_step_ms
            assert row.shared_prefill_ms < 0.25 * row.per_beam_prefill_ms
