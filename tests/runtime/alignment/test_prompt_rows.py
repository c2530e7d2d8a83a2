"""Where the tokens of a prompt begin and end in its audio, by the front ends of all kinds of models."""

from __future__ import annotations

from itertools import pairwise

import pytest

from fastadasp.runtime.alignment.row_map import prompt_rows
from fastadasp.runtime.audio.clip_features import LOG_MEL_PAIRS, STACKED_FBANK, ClipFeatures
from fastadasp.runtime.audio.front_end import FrontEnd, WaveEncoder
from fastadasp.runtime.audio.log_mel import CLIP, FILLED, JOINED, LogMelConfig
from fastadasp.runtime.audio.wave_windows import WaveWindows

FRONT_ENDS = {
    "pairs": FrontEnd(LogMelConfig(), 2),
    "rows around": FrontEnd(LogMelConfig(), 2, bos_rows=1, eos_rows=2),
    "full windows": FrontEnd(LogMelConfig(full_windows=True), 4),
    "full windows of a joined clip": FrontEnd(LogMelConfig(full_windows=True, extent=JOINED), 4),
    "full windows, cut alone": FrontEnd(LogMelConfig(full_windows=True, cuts="alone"), 4),
    "full windows, cut": FrontEnd(LogMelConfig(full_windows=True, cuts="always"), 4),
    "two encoders": FrontEnd(
        LogMelConfig(full_windows=True, cuts="alone"), 4, "begun", wave=WaveEncoder(400, 320, 24)
    ),
    "two encoders, no whole token": FrontEnd(
        LogMelConfig(window_seconds=48959 / 16000, full_windows=True, cuts="alone"),
        4,
        "begun",
        wave=WaveEncoder(400, 320, 24),
    ),
    "three tokens of a group": FrontEnd(
        ClipFeatures(LOG_MEL_PAIRS), 15, token_rule="begun", tokens_per_group=3
    ),
    "stacked frames": FrontEnd(ClipFeatures(STACKED_FBANK, stacked=7, stride=6), 1),
    "chunks of a clip": FrontEnd(
        LogMelConfig(
            window_seconds=6, edge="zero", frames_per_row=8, chunk_frames=100, extent=CLIP, least_samples=8000
        ),
        1,
    ),
    "chunks of a filled clip": FrontEnd(
        LogMelConfig(window_seconds=4, edge="zero", chunk_frames=200, extent=FILLED, filled_seconds=600), 2
    ),
    "windows of samples": FrontEnd(WaveWindows(3200, 300, 20, 24000, None), 1),
}


@pytest.mark.parametrize("name", FRONT_ENDS)
@pytest.mark.parametrize("seconds", [0.45, 3.0, 7.31, 30.0, 40.0, 61.7])
def test_tokens_follow_one_another_and_are_as_long(name: str, seconds: float) -> None:
    """Those before the last one that has audio, to 2 samples and what a window has no whole tokens of."""
    front_end = FRONT_ENDS[name]
    rate = front_end.log_mel.sample_rate
    rows = front_end.decoder_rows(round(seconds * rate))
    prompt = prompt_rows(front_end, 2, rows, 1, seconds)
    spans = [prompt.seconds((row, row)) for row in range(2 + rows + 1)]
    around = [*range(2 + front_end.bos_rows), *range(2 + rows - front_end.eos_rows, 2 + rows + 1)]
    assert {spans[row] for row in around} == {None}
    tokens = [span for span in spans if span is not None]
    assert len(tokens) == rows - front_end.rows_around
    assert tokens[0][0] == 0
    assert all(end == begin for (_, end), (begin, _) in pairwise(tokens))
    lengths = [end - begin for begin, end in tokens]
    with_audio = [length for length in lengths if length > 0]
    usual = front_end.begin_of(1)
    assert with_audio[:-1] == pytest.approx([usual] * (len(with_audio) - 1), abs=26 / rate)
    assert 0 < with_audio[-1] < usual + 26 / rate
    assert lengths[len(with_audio) :] == [0] * (len(lengths) - len(with_audio))  # of what fills it up
    assert tokens[-1][1] == pytest.approx(seconds, abs=1.5 * usual)
    assert tokens[-1][1] <= seconds


def test_a_short_clip_is_not_in_the_last_row_of_a_full_window() -> None:
    front_end = FRONT_ENDS["full windows of a joined clip"]
    prompt = prompt_rows(front_end, 0, 375, 0, 3.0)
    assert [prompt.seconds((row, row)) for row in (0, 36, 37, 38, 374)] == [
        (0, 0.08),
        (2.88, 2.96),
        (2.96, 3),
        (3, 3),
        (3, 3),
    ]


def test_the_tokens_of_a_group_share_its_seconds() -> None:
    front_end = FRONT_ENDS["three tokens of a group"]
    prompt = prompt_rows(front_end, 0, 6, 0, 0.6)
    assert prompt.boundaries == pytest.approx((0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6), abs=1e-4)
