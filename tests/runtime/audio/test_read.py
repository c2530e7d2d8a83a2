"""Any audio becomes mono float32 at the model's rate; whatever cannot gets one line that says why."""

import io
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fastadasp.profiles.errors import AudioError
from fastadasp.runtime.audio.read import MAX_LEVEL, load_audio

RATE = 16000


def tone(rate: int = RATE, seconds: float = 1.0, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


def encode(samples: np.ndarray, rate: int = RATE, kind: str = "WAV", subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def refusal(source: object, **options: int) -> str:
    with pytest.raises(AudioError) as caught:
        load_audio(source, RATE, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    return message


# What loads


@pytest.mark.parametrize(("kind", "tolerance"), [("WAV", 1e-4), ("FLAC", 1e-4), ("OGG", 0.05), ("MP3", 0.05)])
def test_every_format_gives_the_same_waveform(tmp_path: Path, kind: str, tolerance: float) -> None:
    path = tmp_path / f"clip.{kind.lower()}"
    path.write_bytes(encode(tone(), kind=kind))
    audio = load_audio(path, RATE)
    assert audio.samples.dtype == np.float32
    assert audio.samples.flags.c_contiguous
    assert (audio.sample_rate, audio.seconds) == (RATE, 1.0)
    middle = slice(2000, 14000)
    np.testing.assert_allclose(audio.samples[middle], tone()[middle], atol=tolerance)


def test_a_path_as_text_bytes_and_a_stream_are_equal(tmp_path: Path) -> None:
    data = encode(tone())
    path = tmp_path / "clip.wav"
    path.write_bytes(data)
    expected = load_audio(path, RATE).samples
    with path.open("rb") as stream:
        for source in (str(path), data, io.BytesIO(data), stream):
            np.testing.assert_array_equal(load_audio(source, RATE).samples, expected)


def test_a_named_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(encode(tone()),))
    writer.start()
    assert load_audio(path, RATE).seconds == 1.0
    writer.join()


def test_channels_are_averaged_across_decoding_blocks() -> None:
    left, right = tone(seconds=9.0), tone(seconds=9.0, hertz=300.0)
    audio = load_audio(encode(np.stack([left, right, -left], axis=1), subtype="FLOAT"), RATE)
    np.testing.assert_allclose(audio.samples, right / 3, atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_other_rates_are_resampled(rate: int) -> None:
    audio = load_audio(encode(tone(rate), rate), RATE)
    assert abs(len(audio.samples) - RATE) <= 1
    np.testing.assert_allclose(audio.samples[2000:14000], tone()[2000:14000], atol=2e-3)


def test_a_tone_above_the_new_nyquist_frequency_is_removed() -> None:
    audio = load_audio(tone(48000, hertz=11000.0), RATE, source_rate=48000)
    assert np.abs(audio.samples[2000:14000]).max() < 1e-3


def test_an_array_is_at_the_rate_of_the_model_unless_told() -> None:
    np.testing.assert_array_equal(load_audio(tone(), RATE).samples, tone())
    assert load_audio(tone(8000), RATE, source_rate=8000).seconds == 1.0


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4"])
def test_float_arrays_keep_their_values(dtype: str) -> None:
    values = np.array([0.5, -0.25, 1.5])
    np.testing.assert_array_equal(load_audio(values.astype(dtype), RATE).samples, values.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.int16, np.int32, ">i2"])
def test_integer_arrays_are_scaled_by_their_full_scale(dtype: str) -> None:
    low = np.iinfo(dtype).min
    array = np.array([[low, low], [low // 2, 0], [0, 0]], dtype=dtype)
    np.testing.assert_array_equal(load_audio(array, RATE).samples, np.float32([-1.0, -0.25, 0.0]))


def test_the_array_of_the_caller_is_left_alone() -> None:
    array = tone()
    array.flags.writeable = False
    load_audio(array, RATE)
    np.testing.assert_array_equal(array, tone())


def test_one_sample_loads() -> None:
    assert load_audio(np.float32([0.5]), RATE).samples.tolist() == [0.5]


def test_a_wav_whose_writer_did_not_know_its_length_loads_whole() -> None:
    data = encode(tone())
    for placeholder in (0xFFFFFFFF, 0x7FFFFFFF, 0x80000000):
        piped = data[:40] + placeholder.to_bytes(4, "little") + data[44:]
        assert load_audio(piped, RATE).seconds == 1.0


def test_tags_after_an_mp3_are_passed_over() -> None:
    assert load_audio(encode(tone(), kind="MP3") + b"TAG" + bytes(125), RATE).seconds == 1.0


# What is refused


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.wav") == (
        f"audio {tmp_path}/no.wav does not exist; give a wav, flac, ogg or mp3 file"
    )


def test_a_folder_a_device_and_a_bad_path_are_refused(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path)
    assert "is a device or socket" in refusal("/dev/null")
    assert "cannot be read: File name too long" in refusal("x" * 5000)


def test_a_file_of_zero_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    path.touch()
    assert "is empty (0 bytes)" in refusal(path)
    assert "is empty (0 bytes)" in refusal(b"")


@pytest.mark.parametrize("data", [b"not audio at all " * 50, b"RIFF", encode(tone(), kind="FLAC")[:60]])
def test_an_unknown_or_corrupt_file_is_refused(data: bytes) -> None:
    assert "audio bytes is corrupt or of an unknown format" in refusal(data)


def test_raw_samples_are_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "clip.RAW"
    path.write_bytes(bytes(3200))
    assert "raw samples carry no rate; convert to wav" in refusal(path)


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "AU", "FLAC", "CAF"])
def test_a_file_that_was_cut_short_is_refused(kind: str) -> None:
    data = encode(tone(), kind=kind)
    message = refusal(data[: len(data) // 2])
    assert "is cut short" in message or "is corrupt" in message


def test_a_flac_damaged_in_the_middle_is_refused() -> None:
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32) * 0.1
    data = encode(noise, kind="FLAC")
    half = len(data) // 2
    assert "is corrupt" in refusal(data[:half] + bytes(200) + data[half + 200 :])


def test_an_mp3_that_goes_on_after_its_last_frame_is_refused() -> None:
    data = encode(tone(), kind="MP3")
    assert f"{len(data)} bytes follow the 16000 samples" in refusal(data + data)


def test_a_file_without_samples_is_refused() -> None:
    assert "holds no samples" in refusal(encode(np.empty(0, np.float32)))
    assert "holds no samples" in refusal(np.empty((0, 2), np.float32))


@pytest.mark.parametrize(
    ("value", "fault"),
    [(np.nan, "nan is not finite"), (-np.inf, "-inf is not finite"), (1e20, "1e+20 exceeds")],
)
def test_the_first_bad_sample_is_placed_in_time(value: float, fault: str) -> None:
    samples = np.stack([tone(8000, 2.0), tone(8000, 2.0)], axis=1)
    samples[12000:] = value
    for source in (
        encode(samples, 8000, subtype="FLOAT"),
        encode(samples.astype(np.float64), 8000, subtype="DOUBLE"),
    ):
        assert f"sample 12000 at 1.500 s: {fault}" in refusal(source)
    assert f"sample 12000 at 1.500 s: {fault}" in refusal(samples, source_rate=8000)


def test_opposite_infinities_in_two_channels_are_found() -> None:
    assert "sample 0 at 0.000 s: nan" in refusal(np.float32([[np.inf, -np.inf]]))


def test_a_float64_beyond_float32_is_refused() -> None:
    assert "sample 1 at" in refusal(np.array([0.0, 1e300]))


def test_unscaled_integers_in_floats_still_load() -> None:
    assert load_audio(np.float32([MAX_LEVEL, -MAX_LEVEL]), RATE).samples.tolist() == [MAX_LEVEL, -MAX_LEVEL]


@pytest.mark.parametrize("shape", [(), (4, 2, 2), (2, 16000), (16, 0)])
def test_arrays_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    message = refusal(np.zeros(shape, np.float32))
    assert str(shape) in message
    assert "(n, channels)" in message


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint16", "int64", "bool", "complex64", "object"])
def test_arrays_of_another_dtype_are_refused_by_name(dtype: str) -> None:
    assert f"audio array of dtype {dtype}: give float32" in refusal(np.zeros(16, dtype))


def test_other_types_are_refused_by_name() -> None:
    assert "audio of type list" in refusal([0.0, 1.0])
    assert "open as text" in refusal(io.StringIO("text"))


@pytest.mark.parametrize("rate", [0, -8000, 1 << 30])
def test_a_rate_out_of_range_is_refused(rate: int) -> None:
    assert f"source_rate {rate} is out of range" in refusal(tone(), source_rate=rate)


def test_a_source_rate_beside_a_file_is_refused() -> None:
    assert "source_rate 8000 is for arrays" in refusal(encode(tone()), source_rate=8000)


def test_a_clip_shorter_than_one_sample_of_the_model_is_refused() -> None:
    assert "1 sample(s) at 96000 Hz make none at 16000 Hz" in refusal(np.float32([1.0]), source_rate=96000)
