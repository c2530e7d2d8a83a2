"""The NumPy log-mel equals transformers' WhisperFeatureExtractor, and costs what its audio needs."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demo_files import CLIPS
from fastadasp.profiles.errors import ArtifactError, AudioError
from fastadasp.runtime.audio.log_mel import (
    CLIP,
    EDGES,
    FEW_FRAMES,
    FILLED,
    JOINED,
    LogMelConfig,
    _product,
    encoder_rows,
    log_mel_windows,
    mel_filters,
)
from fastadasp.runtime.audio.read import load_audio

# The extractor runs in float32 too; it differs from its own float64 path by up to 6e-5 on speech.
ATOL = 1e-4

FILES = sorted(CLIPS.parent.glob("*.flac"))

SMALL = LogMelConfig(window_seconds=2)
RATE = SMALL.sample_rate


@cache
def extractor(config: LogMelConfig) -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.WhisperFeatureExtractor(
        feature_size=config.num_mel_bins,
        sampling_rate=config.sample_rate,
        hop_length=config.hop_length,
        n_fft=config.n_fft,
        chunk_length=config.window_seconds,
    )


def extracted(piece: np.ndarray, config: LogMelConfig) -> tuple[np.ndarray, int]:
    """The extractor's padded mel (bins, max_frames) of one window, and how many frames it calls valid."""
    options = {"sampling_rate": config.sample_rate, "return_tensors": "np", "return_attention_mask": True}
    features = extractor(config)(piece, **options)
    return features["input_features"][0], int(features["attention_mask"][0].sum())


def speech_like(samples: int) -> np.ndarray:
    """A gliding voice of many harmonics whose level moves over 60 dB, with pauses of faint noise."""
    time = np.arange(samples) / RATE
    phase = 2 * np.pi * np.cumsum(120 + 40 * np.sin(2 * np.pi * 0.7 * time)) / RATE
    voice = sum(np.sin(k * phase) / k for k in range(1, 30))
    level = 10.0 ** (-1.5 + 1.5 * np.sin(2 * np.pi * 1.3 * time))
    noise = np.random.default_rng(1).standard_normal(samples) * 1e-4
    return (0.2 * voice * level * (np.sin(2 * np.pi * 0.4 * time) > -0.5) + noise).astype(np.float32)


def noise(samples: int, level: float = 0.3) -> np.ndarray:
    return (level * np.random.default_rng(0).standard_normal(samples)).astype(np.float32)


SIGNALS = {
    "noise": lambda n: noise(n),
    "speech": speech_like,
    "silence": lambda n: np.zeros(n, np.float32),
    "square wave": lambda n: np.where(np.arange(n) // 23 % 2, 1.0, -1.0).astype(np.float32),
    "quiet noise": lambda n: noise(n, 1e-6),
    "unscaled 16-bit noise": lambda n: noise(n, 1e4),
    "one click": lambda n: (np.arange(n) == n // 2).astype(np.float32),
    "constant": lambda n: np.ones(n, np.float32),
}

LENGTHS = [
    1,
    2,
    159,
    160,
    161,
    199,
    200,
    201,
    319,
    320,
    321,
    400,
    401,
    8001,
    16000,
    31639,
    31640,
    31841,
    31999,
    32000,
]


def assert_equals_extractor(samples: np.ndarray, config: LogMelConfig) -> None:
    windows = list(log_mel_windows(samples, config))
    size = config.window_samples
    assert len(windows) == -(-len(samples) // size)
    for index, window in enumerate(windows):
        mel, valid = extracted(samples[index * size : (index + 1) * size], config)
        if config.edge == "cut":
            valid = len(samples[index * size : (index + 1) * size]) // config.hop_length
        extra = 2 if config.edge == "padded" else 0
        assert window.encoder_rows == (valid - 1) // 2 + 1
        assert window.mel.shape == (
            config.num_mel_bins,
            min(config.max_frames, 2 * window.encoder_rows + extra),
        )
        assert window.mel.dtype == np.float32
        assert window.mel.flags.c_contiguous
        np.testing.assert_allclose(window.mel, mel[:, : window.mel.shape[1]], rtol=0, atol=ATOL)


@pytest.mark.parametrize("bins", [80, 128])
@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("seconds", [30, 2, 0.37])
def test_a_window_equals_the_feature_extractor(name: str, bins: int, seconds: float) -> None:
    config = LogMelConfig(num_mel_bins=bins)
    assert_equals_extractor(SIGNALS[name](int(seconds * RATE)), config)


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("length", LENGTHS)
def test_every_length_returns_the_frames_of_the_full_window(length: int, edge: str) -> None:
    assert_equals_extractor(speech_like(32000)[:length], replace(SMALL, edge=edge))


@pytest.mark.parametrize("length", [32001, 32159, 48000, 80000])
def test_longer_audio_is_cut_into_windows(length: int) -> None:
    assert_equals_extractor(noise(length), SMALL)


@pytest.mark.parametrize("clip", FILES, ids=lambda path: path.stem)
def test_human_speech_equals_the_feature_extractor(clip: Path) -> None:
    samples = load_audio(clip, RATE).samples
    for bins in (80, 128):
        assert_equals_extractor(samples, LogMelConfig(num_mel_bins=bins))


def test_every_window_keeps_its_own_loudness_floor() -> None:
    samples = np.concatenate([noise(32000, 1.0), noise(32000, 1e-4)])
    loud, quiet = log_mel_windows(samples, SMALL)
    np.testing.assert_array_equal(quiet.mel, next(log_mel_windows(samples[32000:], SMALL)).mel)
    assert loud.mel.max() > quiet.mel.max() + 1


def test_a_loud_last_sample_sets_the_floor_from_a_frame_that_is_not_returned() -> None:
    """The click lies in frames past the cut of edge "zero", and still counts for the maximum."""
    samples = noise(320 * 5, 1e-7)
    samples[-1] = 1.0
    assert_equals_extractor(samples, replace(SMALL, edge="zero"))


def test_the_work_follows_the_length_of_the_audio(monkeypatch: pytest.MonkeyPatch) -> None:
    transformed = 0
    rfft = np.fft.rfft

    def counting(frames: np.ndarray) -> np.ndarray:
        nonlocal transformed
        transformed += len(frames)
        return rfft(frames)

    monkeypatch.setattr(np.fft, "rfft", counting)
    list(log_mel_windows(noise(3 * RATE), LogMelConfig()))
    assert 300 <= transformed <= 302
    transformed = 0
    list(log_mel_windows(noise(60 * RATE), LogMelConfig()))
    assert transformed == 6000


@pytest.mark.parametrize(
    "config",
    [
        LogMelConfig(n_fft=512, hop_length=128, num_mel_bins=64, window_seconds=1),
        LogMelConfig(n_fft=1024, hop_length=100, num_mel_bins=40, window_seconds=1),
        LogMelConfig(sample_rate=24000, n_fft=600, hop_length=240, window_seconds=1),
        LogMelConfig(n_fft=400, hop_length=399, num_mel_bins=20, window_seconds=1),
        LogMelConfig(n_fft=400, hop_length=170, num_mel_bins=20, window_seconds=1),
    ],
)
def test_other_parameters_follow_the_extractor(config: LogMelConfig) -> None:
    for length in (1, 777, config.window_samples // 2, config.window_samples - 1, config.window_samples):
        mel, _ = extracted(noise(length), config)
        window = next(log_mel_windows(noise(length), config))
        np.testing.assert_allclose(window.mel, mel[:, : window.mel.shape[1]], rtol=0, atol=ATOL)


@pytest.mark.parametrize("bins", [80, 128])
def test_filters_equal_those_of_the_extractor(bins: int) -> None:
    config = LogMelConfig(num_mel_bins=bins)
    filters = mel_filters(config)
    assert filters.shape == (bins, 201)
    np.testing.assert_allclose(filters, extractor(config).mel_filters.T, atol=1e-8)


@pytest.mark.parametrize("length", [1, 5000, 32000, 40000])
def test_a_full_window_holds_the_silence_that_fills_it_up(length: int) -> None:
    config = replace(SMALL, full_windows=True)
    windows = list(log_mel_windows(noise(length), config))
    for i, window in enumerate(windows):
        mel, _ = extracted(noise(length)[i * config.window_samples :][: config.window_samples], config)
        assert (window.encoder_rows, window.mel.shape) == (config.max_rows, mel.shape)
        np.testing.assert_allclose(window.mel, mel, rtol=0, atol=ATOL)


def test_filters_are_shared_and_cannot_be_changed() -> None:
    filters = mel_filters(SMALL)
    assert mel_filters(LogMelConfig(window_seconds=2)) is filters
    with pytest.raises(ValueError, match="read-only"):
        filters[0, 0] = 1.0


def test_the_last_row_of_the_encoder_is_named_for_every_length() -> None:
    rows = [encoder_rows(n, SMALL) for n in (1, 160, 320, 321, 640, 641, 32000)]
    assert rows == [1, 1, 1, 2, 2, 3, 100]


@pytest.mark.parametrize("edge", ["padded", "zero"])
@pytest.mark.parametrize("length", [1, 161, 1700, 31700, 32000])
def test_the_returned_frames_suffice_for_the_convolutions(length: int, edge: str) -> None:
    """Rows over the returned frames equal those over the whole window, or over zeros past its cut."""
    torch = pytest.importorskip("torch")
    config = replace(SMALL, num_mel_bins=80, edge=edge)
    weights = torch.Generator().manual_seed(0)
    first = torch.randn((8, 80, 3), generator=weights)
    second = torch.randn((8, 8, 3), generator=weights)

    def rows(mel: np.ndarray) -> np.ndarray:
        hidden = torch.nn.functional.gelu(
            torch.nn.functional.conv1d(torch.from_numpy(mel)[None], first, padding=1)
        )
        return torch.nn.functional.conv1d(hidden, second, stride=2, padding=1)[0].numpy()

    window = next(log_mel_windows(noise(length), config))
    full, _ = extracted(noise(length), config)
    expected = rows(full if edge == "padded" else np.ascontiguousarray(full[:, : 2 * window.encoder_rows]))
    kept = window.encoder_rows
    np.testing.assert_allclose(rows(window.mel)[:, :kept], expected[:, :kept], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("shape", [(0,), (2, 160), ()])
def test_a_waveform_of_another_shape_is_refused_at_once(shape: tuple[int, ...]) -> None:
    with pytest.raises(AudioError, match="must be \\(n,\\)"):
        log_mel_windows(np.zeros(shape, np.float32), SMALL)


def test_all_bad_parameters_are_named_together() -> None:
    with pytest.raises(ArtifactError) as caught:
        LogMelConfig(hop_length=0, n_fft=401, edge="mirror")
    message = str(caught.value)
    assert "hop_length is 0: give a whole number of at least 1" in message
    assert "n_fft 401 must be even" in message
    assert "edge 'mirror' is unknown (known: padded, zero, cut)" in message


def test_a_window_shorter_than_a_frame_is_refused() -> None:
    with pytest.raises(ArtifactError, match="a window of 300 samples"):
        LogMelConfig(sample_rate=300, window_seconds=1)


@pytest.mark.parametrize("samples", [1, 500, 31999, 32000, 32001, 70000, 96000])
def test_joined_windows_are_pieces_of_the_mel_of_the_whole_audio(samples: int) -> None:
    joined = replace(SMALL, full_windows=True, extent=JOINED)
    wave = speech_like(samples)
    wave[: samples // 2] *= 0.01  # what is loudest in the whole audio is not in every window
    options = {"sampling_rate": RATE, "truncation": False, "padding": True, "return_tensors": "np"}
    padded = extractor(SMALL)(wave, pad_to_multiple_of=SMALL.window_samples, **options)["input_features"][0]
    expected = padded.reshape(SMALL.num_mel_bins, -1, SMALL.max_frames).transpose(1, 0, 2)
    found = list(log_mel_windows(wave, joined))
    assert [window.encoder_rows for window in found] == [SMALL.max_rows] * len(expected)
    np.testing.assert_allclose([window.mel for window in found], expected, atol=ATOL)


def test_joined_windows_that_are_not_full_are_refused() -> None:
    with pytest.raises(ArtifactError, match="joined windows are full ones"):
        replace(SMALL, extent=JOINED)


WHOLE = {
    "clip": LogMelConfig(
        window_seconds=1, edge="zero", frames_per_row=8, chunk_frames=100, extent=CLIP, least_samples=8000
    ),
    "filled clip": LogMelConfig(
        window_seconds=1, edge="zero", chunk_frames=50, extent=FILLED, filled_seconds=4
    ),
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("length", [300, 8000, 8159, 16000, 16001, 47999, 63990, 64000])
def test_windows_of_a_clip_are_pieces_of_what_its_extractor_gives(name: str, length: int) -> None:
    """Qwen3-ASR's own extractor, which mirrors a clip where it ends; Whisper's over a long silence."""
    from transformers import Qwen3ASRFeatureExtractor, WhisperFeatureExtractor

    config, wave = WHOLE[name], noise(length)
    if config.extent == CLIP:
        own = Qwen3ASRFeatureExtractor()
        found = own(wave, sampling_rate=RATE, padding=True, n_window=0, return_attention_mask=True)
    else:
        filling = WhisperFeatureExtractor(feature_size=128, chunk_length=4)
        found = filling(wave, sampling_rate=RATE, return_attention_mask=True, return_tensors="np")
    heard = int(found["attention_mask"].sum())
    windows = list(log_mel_windows(wave, config))
    ours = np.concatenate([window.mel for window in windows], axis=1)
    np.testing.assert_allclose(ours, np.asarray(found["input_features"])[0, :, :heard], atol=ATOL)
    assert {window.mel.shape[1] for window in windows[:-1]} <= {config.max_frames}
    assert [window.encoder_rows for window in windows] == [
        config.rows_of(window.mel.shape[1]) for window in windows
    ]


def test_rows_of_chunks_are_counted_and_frames_of_rows_found() -> None:
    config = WHOLE["clip"]
    assert [config.rows_of(n) for n in (0, 1, 8, 9, 99, 100, 101, 200)] == [0, 1, 1, 2, 13, 13, 14, 26]
    for frames in range(1, 100):
        rows = config.rows_of(frames)
        assert config.rows_of(config.least_frames_of(rows)) == rows
        assert config.rows_of(config.least_frames_of(rows) - 1) == rows - 1
        assert frames <= config.frames_of(rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edge": "padded"}, "takes edge 'zero' and no full windows"),
        ({"chunk_frames": 30}, "no whole number of chunks"),
        ({"extent": "song"}, "extent 'song' is unknown"),
        ({"cuts": "often"}, "cuts 'often' is unknown"),
        ({"extent": FILLED}, "filled_seconds None does not fit extent 'filled clip'"),
        ({"least_samples": 200}, "least_samples 200 must exceed half of n_fft"),
    ],
)
def test_extents_that_cannot_be_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        replace(WHOLE["clip"], **change)


@pytest.mark.parametrize("frames", [0, 1, FEW_FRAMES - 1, FEW_FRAMES, FEW_FRAMES + 1, 8 * FEW_FRAMES + 3])
def test_mel_powers_are_products_of_few_frames_at_once(frames: int) -> None:
    rng = np.random.default_rng(frames)
    energy, filters = (rng.random(shape, dtype=np.float32) for shape in ((frames, 201), (201, 80)))
    expected = energy.astype(np.float64) @ filters.astype(np.float64)
    np.testing.assert_allclose(_product(energy, filters), expected, rtol=1e-5)


def test_no_product_is_large_enough_for_threads_of_openblas() -> None:
    most_mel_bins, bins, one_thread = 128, 201, 2**18
    assert FEW_FRAMES * most_mel_bins * bins <= one_thread
