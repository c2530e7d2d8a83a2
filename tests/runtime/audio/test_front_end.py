"""How many decoder rows audio gives: by today's rule, and by those of other families as rows of the table."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from fastadasp.profiles.codec import from_json, to_json
from fastadasp.profiles.errors import ArtifactError
from fastadasp.runtime.audio.front_end import TOKEN_RULES, FrontEnd, WaveEncoder
from fastadasp.runtime.audio.log_mel import CLIP, FILLED, LogMelConfig, encoder_rows, log_mel_windows

HOP = 160  # samples of a mel frame
OTHER_RULES = {
    "13 per 100": lambda _, rows: 13 * (rows // 100) + -(-(rows % 100) // 8),
    "3 per 15 begun": lambda _, rows: 3 * -(-rows // 15),
}
FRONT_ENDS = {
    "pairs": (LogMelConfig(), {"rows_per_token": 2}),
    "rows around": (LogMelConfig(window_seconds=2), {"rows_per_token": 2, "bos_rows": 1, "eos_rows": 2}),
    "whole frames": (
        LogMelConfig(num_mel_bins=80, window_seconds=2, edge="cut"),
        {"rows_per_token": 2, "bos_rows": 1, "eos_rows": 1},
    ),
    "fours": (LogMelConfig(window_seconds=4), {"rows_per_token": 4}),
    "a window with a rest": (LogMelConfig(window_seconds=5), {"rows_per_token": 4}),
    "full windows": (LogMelConfig(window_seconds=3, full_windows=True), {"rows_per_token": 4}),
    "13 per 100": (
        LogMelConfig(window_seconds=8, frames_per_row=1),
        {"rows_per_token": 8, "token_rule": "13 per 100"},
    ),
    "3 per 15 begun": (
        LogMelConfig(num_mel_bins=80, window_seconds=7),
        {"rows_per_token": 5, "token_rule": "3 per 15 begun"},
    ),
    "chunks of a clip": (
        LogMelConfig(
            window_seconds=6, edge="zero", frames_per_row=8, chunk_frames=100, extent=CLIP, least_samples=8000
        ),
        {"rows_per_token": 1},
    ),
    "chunks of a filled clip": (
        LogMelConfig(window_seconds=4, edge="zero", chunk_frames=200, extent=FILLED, filled_seconds=40),
        {"rows_per_token": 2},
    ),
    "full windows that are cut": (
        LogMelConfig(window_seconds=3, full_windows=True, cuts="always"),
        {"rows_per_token": 4},
    ),
    "two encoders": (
        LogMelConfig(num_mel_bins=80, window_seconds=3, full_windows=True, cuts="alone"),
        {"rows_per_token": 4, "token_rule": "begun", "wave": WaveEncoder(400, 320, 24)},
    ),
    "windows of no whole token": (
        LogMelConfig(num_mel_bins=80, window_seconds=48959 / 16000, full_windows=True, cuts="alone"),
        {"rows_per_token": 4, "token_rule": "begun", "wave": WaveEncoder(400, 320, 24)},
    ),
    "a wave with more rows than the windows": (
        LogMelConfig(num_mel_bins=80, window_seconds=2, full_windows=True, cuts="alone"),
        {"rows_per_token": 4, "token_rule": "begun", "wave": WaveEncoder(40, 250, 24)},
    ),
}
"""Name -> log-mel frames and the other fields."""

PAIRS = FrontEnd(*FRONT_ENDS["pairs"][:1], rows_per_token=2)


@pytest.fixture(params=FRONT_ENDS)
def front_end(request, monkeypatch):
    """Each of them, with what its rule takes: a row of the table."""
    for name, rule in OTHER_RULES.items():
        monkeypatch.setitem(TOKEN_RULES, name, rule)
    log_mel, others = FRONT_ENDS[request.param]
    return FrontEnd(log_mel, **others)


def lengths(front_end):
    """Numbers of samples around every edge of frames and windows, in growing order."""
    window = front_end.log_mel.window_samples
    edges = {*range(0, 3 * window + 2, 23 * HOP), *(i * window for i in range(4)), *range(0, 40 * HOP, HOP)}
    return sorted({max(0, edge + shift) for edge in edges for shift in (-1, 0, 1)})


def halved(frames):
    return (frames - 1) // 2 + 1


def test_pairs_of_rows_give_the_tokens_of_the_published_formula():
    for frames in range(1, 3001):
        expected = (halved(frames) - 2) // 2 + 1
        assert {PAIRS.audio_tokens(n) for n in ((frames - 1) * HOP + 1, frames * HOP)} == {expected}


def test_whole_frames_give_the_tokens_of_the_published_formula():
    front_end = FrontEnd(LogMelConfig(num_mel_bins=80, edge="cut"), 2, bos_rows=1, eos_rows=1)
    for n in [*range(480, 480001, 53), 80321]:
        assert front_end.audio_tokens(n) == (halved(n // HOP) - 2) // 2 + 1
    assert front_end.shortest_samples == 3 * HOP


def test_a_full_window_gives_all_its_tokens_however_short_the_audio_is():
    front_end = FrontEnd(LogMelConfig(full_windows=True), rows_per_token=4)
    window = front_end.log_mel.window_samples
    samples = (0, 1, window, window + 1, 3 * window)
    assert [front_end.audio_tokens(n) for n in samples] == [0, 375, 375, 750, 1125]


def rows_by_loop(front_end, n):
    """Tokens of n samples with two encoders: every part and every convolution, one step at a time."""
    window = front_end.log_mel.window_samples
    parts = [min(window, n - at) for at in range(0, n, window)]
    whisper = 0
    for part in parts:
        frames = -(-part // HOP) if len(parts) == 1 else window // HOP
        whisper += halved(halved(halved(min(frames, window // HOP))))
    if n < 400:
        return 0
    for kernel, stride in zip((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2), strict=True):
        n = (n - kernel) // stride + 1
    return min(whisper, halved(halved(n)))


@pytest.mark.parametrize("window", [48000, 480000, 48959, 47841, 40001, 3333])
def test_two_encoders_give_the_tokens_of_the_shorter(window):
    """Windows are full but for one that is alone; the second encoder hears all samples."""
    config = LogMelConfig(window_seconds=window / 16000, full_windows=True, cuts="alone")
    front_end = FrontEnd(config, 4, "begun", wave=WaveEncoder(400, 320, 24))
    assert config.window_samples == window
    edges = {i * window for i in range(12)} | set(range(0, 3 * 1280, 80)) | {40 * window, 317 * window}
    lengths = {max(0, edge + shift) for edge in edges for shift in (-321, -81, -80, -1, 0, 1, 79, 80, 400)}
    lengths |= set(np.random.default_rng(0).integers(12 * window, size=300).tolist())
    for n in lengths:
        assert front_end.audio_tokens(n) == rows_by_loop(front_end, n)
    assert front_end.shortest_samples == 400


def test_whole_tokens_of_two_encoders_are_as_long_as_published():
    """12.5 a second: ((n - 80) // 320 + 3) // 4."""
    config = LogMelConfig(full_windows=True, cuts="alone")
    front_end = FrontEnd(config, 4, "begun", wave=WaveEncoder(400, 320, 2048))
    for seconds, tokens in ((30, 375), (60, 750), (120, 1500), (240, 3000)):
        assert front_end.audio_tokens(seconds * 16000) == tokens
        assert front_end.seconds_of(tokens) == seconds
    for n in np.random.default_rng(1).integers(400, 960_000, 500).tolist():
        assert front_end.audio_tokens(n) == ((n - 80) // 320 + 3) // 4
    assert front_end.least_encoder_rows == 1
    assert front_end.window_width(4096) == 2048
    assert replace(front_end, wave=None).window_width(4096) == 4096


def test_a_wave_encoder_out_of_range_is_refused():
    with pytest.raises(
        ArtifactError, match=r"wave: first_samples is 0: give .*; wave: window_width is -1: give"
    ):
        replace(PAIRS, wave=WaveEncoder(0, 320, -1))
    with pytest.raises(ArtifactError, match="gives no audio token"):
        replace(PAIRS, token_rule="begun", wave=WaveEncoder(480_001, 320, 8))


def test_a_rule_of_another_family_is_a_row_of_the_table(monkeypatch):
    """13 tokens of 100 frames, each chunk halved three times."""
    monkeypatch.setitem(TOKEN_RULES, "13 per 100", OTHER_RULES["13 per 100"])
    log_mel, others = FRONT_ENDS["13 per 100"]
    front_end = FrontEnd(log_mel, **others)
    for frames in range(1, 2500):
        rest = frames % 100 and halved(halved(halved(frames % 100)))
        assert front_end.audio_tokens(frames * HOP) == 13 * (frames // 100) + rest


def test_longer_audio_never_gives_fewer_tokens(front_end):
    counts = [front_end.audio_tokens(n) for n in lengths(front_end)]
    assert counts == sorted(counts)
    assert counts[0] == 0 < counts[-1]


def test_the_count_is_the_sum_over_the_windows_that_the_encoder_gets(front_end):
    config = front_end.log_mel
    for n in lengths(front_end)[1::40]:
        windows = list(log_mel_windows(np.zeros(n, np.float32), config))
        assert front_end.window_tokens(n) == sum(front_end.tokens_of(each.encoder_rows) for each in windows)
        assert front_end.wave or front_end.window_tokens(n) == front_end.audio_tokens(n)
        assert config.full_windows or all(
            each.mel.shape[1] == config.frames_of(each.encoder_rows)
            or (config.has_audio_alone and config.rows_of(each.mel.shape[1]) == each.encoder_rows)
            for each in windows
        )
        assert not config.full_windows or {each.mel.shape[1] for each in windows} == {config.max_frames}


def test_the_rows_around_count_once(front_end):
    for n in lengths(front_end)[1::40]:
        assert front_end.decoder_rows(n) == front_end.audio_tokens(n) + front_end.rows_around
    assert front_end.rows_around == front_end.bos_rows + front_end.eos_rows


def test_the_least_encoder_rows_are_those_of_the_shortest_audio_with_a_token(front_end):
    config, least = front_end.log_mel, front_end.least_encoder_rows
    rows = {encoder_rows(n, config) for n in range(1, config.window_samples, HOP // 2)}
    assert least == min(each for each in rows if front_end.tokens_of(each))


def test_seconds_give_at_most_the_rows_that_they_are_asked_for(front_end):
    """And a little more than the time of one more token gives more of them."""
    config = front_end.log_mel
    per_window = front_end.audio_tokens(config.window_samples)
    longest_step = config.window_samples if config.full_windows else 60 * HOP
    for rows in range(2 * per_window + front_end.rows_around + 2):
        samples = math.floor(front_end.seconds_of(rows) * config.sample_rate + 1e-6)
        tokens = max(0, rows - front_end.rows_around)
        assert front_end.audio_tokens(samples) <= tokens < front_end.audio_tokens(samples + longest_step + 1)


@pytest.mark.parametrize("name", ["pairs", "rows around", "fours"])
def test_seconds_are_the_inverse_where_every_token_is_as_long(name):
    log_mel, others = FRONT_ENDS[name]
    front_end = FrontEnd(log_mel, **others)
    step = log_mel.frames_per_row * front_end.rows_per_token * HOP
    for tokens in range(2 * front_end.audio_tokens(log_mel.window_samples) + 1):
        rows = tokens + front_end.rows_around
        assert front_end.seconds_of(rows) == tokens * step / log_mel.sample_rate
        assert front_end.decoder_rows(tokens * step) == rows


def test_no_audio_fits_into_fewer_rows_than_a_full_window_gives():
    front_end = FrontEnd(LogMelConfig(full_windows=True), rows_per_token=4)
    assert [front_end.seconds_of(rows) for rows in (0, 374, 375, 749, 750)] == [0, 0, 30, 30, 60]


def test_what_is_written_is_read(front_end):
    assert from_json(FrontEnd, json.loads(json.dumps(to_json(front_end)))) == front_end


def test_all_faults_are_named_at_once():
    with pytest.raises(ArtifactError) as raised:
        replace(PAIRS, rows_per_token=0, eos_rows=-1, token_rule="guessed")
    line = str(raised.value)
    assert "rows_per_token is 0: give a whole number of at least 1; eos_rows is -1: give" in line
    assert "token_rule 'guessed' is unknown (known: pooled, begun)" in line
    assert line.endswith("build the artifact again")


def test_a_window_without_a_token_is_refused():
    with pytest.raises(ArtifactError, match="a window of 1500 encoder rows gives no audio token"):
        replace(PAIRS, rows_per_token=1501)
