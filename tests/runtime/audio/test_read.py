"""Any audio becomes mono float32 at the model's rate; whatever cannot gets one line that says why."""

import array
import gzip
import io
import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from fastadasp.profiles.errors import AudioError
from fastadasp.runtime.audio.containers.decode import Block
from fastadasp.runtime.audio.read import is_longer, load_audio, read_blocks
from fastadasp.runtime.audio.waveform import MAX_LEVEL, mono_blocks

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


def test_an_open_file_is_neither_moved_nor_copied(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    data = encode(tone())
    path.write_bytes(data + b"LIST" + (8 << 20).to_bytes(4, "little") + bytes(8 << 20))
    with path.open("rb") as stream:
        path.unlink()
        tracemalloc.start()
        samples = load_audio(stream, RATE).samples
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert stream.tell() == 0
        assert stream.read(len(data)) == data
    np.testing.assert_array_equal(samples, load_audio(data, RATE).samples)
    assert peak < 4 << 20


def test_what_was_read_of_a_stream_is_no_part_of_the_audio(tmp_path: Path) -> None:
    path, data = tmp_path / "clip", encode(tone())
    path.write_bytes(b"no audio" + data)
    expected = load_audio(data, RATE).samples
    with path.open("rb") as stream:
        stream.seek(8)
        np.testing.assert_array_equal(load_audio(stream, RATE).samples, expected)
    packed = tmp_path / "clip.wav.gz"
    packed.write_bytes(gzip.compress(data))
    with gzip.open(packed) as stream, io.BufferedReader(stream) as buffered:
        np.testing.assert_array_equal(load_audio(buffered, RATE).samples, expected)


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
    assert refusal(tmp_path) == f"audio {tmp_path} is a folder; give a wav, flac, ogg or mp3 file"
    assert refusal("/dev/null") == "audio /dev/null is a device or socket; give a wav, flac, ogg or mp3 file"
    assert "cannot be read: File name too long" in refusal("x" * 5000)


def test_a_file_of_zero_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    path.touch()
    assert "is empty (0 bytes)" in refusal(path)
    assert "is empty (0 bytes)" in refusal(b"")


@pytest.mark.parametrize("data", [b"not audio at all " * 50, b"RIFF", b"\xff", b"ID3", b"fLa"])
def test_an_unknown_file_is_refused(data: bytes) -> None:
    assert "audio bytes is corrupt or of an unknown format" in refusal(data)


@pytest.mark.parametrize("end", [4, 8, 20, 41, 42, 60])
def test_the_header_of_a_file_is_no_file(end: int) -> None:
    assert "audio bytes is cut short" in refusal(encode(tone(), kind="FLAC")[:end])


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


def test_an_mp3_that_goes_on_after_its_last_frame_is_heard_to_the_end() -> None:
    data = encode(tone(), kind="MP3")
    audio = load_audio(data + data, RATE)
    assert audio.seconds == 2.0
    np.testing.assert_allclose(audio.samples[18000:30000], audio.samples[2000:14000], atol=1e-3)


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
    assert "sample 0 at 0.000 s: inf is not finite" in refusal(np.float32([[np.inf, -np.inf]]))
    assert "sample 1 at 0.000 s: 1e+06 exceeds 16" in refusal(np.float32([[0, 0], [1e6, -1e6]]))


def test_a_float64_beyond_float32_is_refused() -> None:
    assert "sample 1 at" in refusal(np.array([0.0, 1e300]))


@pytest.mark.parametrize("scale", [2.0**15, 2.0**31, 100.0])
def test_unscaled_integers_in_floats_are_refused_with_the_divisor(scale: float) -> None:
    remedy = "divide what was int16 by 32768, what was int32 by 2147483648"
    for source in (tone() * scale, encode((tone() * scale).astype(np.float32), subtype="FLOAT")):
        message = refusal(source)
        assert remedy in message
        assert f"exceeds {MAX_LEVEL:g}, and full scale is 1.0" in message


def test_mixes_that_exceed_full_scale_by_some_decibels_load() -> None:
    assert load_audio(np.float32([MAX_LEVEL, -MAX_LEVEL]), RATE).samples.tolist() == [MAX_LEVEL, -MAX_LEVEL]


@pytest.mark.parametrize("shape", [(), (4, 2, 2), (2, 16000), (16, 0)])
def test_arrays_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    message = refusal(np.zeros(shape, np.float32))
    assert str(shape) in message
    assert "(n, channels)" in message


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint16", "int64", "bool", "complex64", "object"])
def test_arrays_of_another_dtype_are_refused_by_name(dtype: str) -> None:
    assert f"audio array of dtype {dtype}: give float32" in refusal(np.zeros(16, dtype))


@pytest.mark.parametrize(
    "source",
    [
        ["a.wav", "b.wav"],
        ("a.wav", Path("b.wav")),
        [b"RIFF", b"fLaC"],
        [["a.wav"]],
        [Path("a.wav")],
        [io.BytesIO(b"RIFF")],
        [[Path("a.wav")]],
    ],
)
def test_several_clips_are_not_taken_for_samples(source: object) -> None:
    found = refusal(source)
    assert f"a {type(source).__name__} of files; give one: a request has one clip" in found


@pytest.mark.parametrize("source", [None, 3, 3.5, {"array": tone()}, object()])
def test_other_types_are_refused_by_name(source: object) -> None:
    assert f"audio of type {type(source).__name__}: give a path, bytes, a binary stream, samples" in refusal(
        source
    )


def test_a_stream_is_called_by_its_name_and_not_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"no audio")
    with path.open("rb") as named, os.fdopen(os.dup(named.fileno()), "rb") as numbered:
        assert f"audio stream {path} is" in refusal(named)
        assert "audio stream is" in refusal(numbered)


def test_a_stream_of_text_is_refused() -> None:
    assert "open as text" in refusal(io.StringIO("text"))


def test_a_stream_that_fails_is_refused() -> None:
    closed = io.BytesIO(encode(tone()))
    closed.close()
    assert "cannot be read: I/O operation on closed file" in refusal(closed)
    detached = io.BufferedReader(io.BytesIO(encode(tone())))  # type: ignore[arg-type]
    detached.detach()
    assert "cannot be read: raw stream has been detached" in refusal(detached)

    class Broken(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: object) -> int:
            raise OSError(5, "Input/output error")

    assert "cannot be read: Input/output error" in refusal(io.BufferedReader(Broken()))


def test_a_disk_that_fails_while_a_file_is_read_is_no_end_of_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from fastadasp.runtime.audio import recording

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 300_000:
                raise OSError(5, "Input/output error")
            return super().read(size)

    monkeypatch.setattr(recording, "_open", lambda source, place: Failing(source))
    for kind in ("WAV", "AU", "FLAC"):
        noise = np.random.default_rng(0).standard_normal(400_000).astype(np.float32) * 0.1
        assert "cannot be read: Input/output error" in refusal(encode(noise, kind=kind))


@pytest.mark.parametrize("rate", [0, -8000, 1 << 30])
def test_a_rate_out_of_range_is_refused(rate: int) -> None:
    assert f"source_rate {rate} is out of range" in refusal(tone(), source_rate=rate)
    assert f"rate {rate} is out of range" in refusal((tone(), rate))


@pytest.mark.parametrize("rate", ["16000", True, 16000.5, b"8000"])
def test_a_rate_that_is_no_whole_number_is_refused(rate: object) -> None:
    assert f"source_rate {rate!r} is no whole number" in refusal(tone(), source_rate=rate)  # type: ignore[arg-type]


def test_a_source_rate_beside_a_file_is_refused() -> None:
    assert "source_rate 8000 is for arrays" in refusal(encode(tone()), source_rate=8000)


def test_two_rates_that_contradict_each_other_are_refused() -> None:
    assert "source_rate 8000 contradicts the rate 16000" in refusal((tone(), 16000), source_rate=8000)
    assert load_audio((tone(8000), 8000), RATE, source_rate=8000).seconds == 1.0


# Channels that cancel


def test_opposite_channels_are_refused_with_the_remedy() -> None:
    opposite = np.stack([tone(), -tone()], axis=1)
    assert "its channels cancel in their mean" in refusal(opposite)
    for kind in ("WAV", "FLAC", "OGG"):
        assert "give one channel alone" in refusal(encode(opposite, kind=kind))


def test_opposite_channels_with_noise_of_their_own_are_refused() -> None:
    noise = np.random.default_rng(0).standard_normal((2, RATE)).astype(np.float32) * 0.02
    assert "cancel" in refusal(np.stack([tone() + noise[0], -tone() + noise[1]], axis=1))


def test_a_passage_that_cancels_is_refused() -> None:
    long = tone(seconds=20.0)
    wrong = long.copy()
    wrong[5 * RATE : 7 * RATE] *= -1
    assert "cancel" in refusal(np.stack([long, wrong], axis=1))


@pytest.mark.parametrize("channels", [2, 6])
def test_channels_that_do_not_cancel_load(channels: int) -> None:
    random = np.random.default_rng(0)
    alone = np.zeros((RATE, channels), np.float32)
    alone[:, 0] = tone()
    unrelated = random.standard_normal((RATE, channels)).astype(np.float32) * 0.1
    wide = np.stack([tone() + 0.7 * tone(hertz=300.0), tone() - 0.7 * tone(hertz=300.0)], axis=1)
    for source in (alone, unrelated, wide, np.zeros((RATE, channels), np.float32)):
        assert load_audio(source, RATE).seconds == 1.0


# Samples as callers hold them


def test_samples_may_come_with_their_rate() -> None:
    expected = load_audio(tone(8000), RATE, source_rate=8000).samples
    for source in ((tone(8000), 8000), (8000, tone(8000)), (tone(8000).tolist(), np.int64(8000))):
        np.testing.assert_array_equal(load_audio(source, RATE).samples, expected)


def test_a_rate_that_is_no_whole_number_is_called_so() -> None:
    for source in ((tone(8000), 8000.0), (8000.5, tone(8000)), (tone(8000).tolist(), np.float32(8000))):
        assert "is no whole number; give a rate in Hz from 1" in refusal(source)
    assert load_audio((0.5, -0.5), RATE).samples.tolist() == [0.5, -0.5]  # two samples


def test_lists_are_arrays() -> None:
    assert load_audio([0.5, -0.5], RATE).samples.tolist() == [0.5, -0.5]
    assert load_audio([[0.5, 0.0], [1.0, 0.5]], RATE).samples.tolist() == [0.25, 0.75]
    assert load_audio((0.5, -0.5, 0.25), RATE).samples.tolist() == [0.5, -0.5, 0.25]
    assert "audio array: a list of unequal rows" in refusal([[0.5], [0.5, 1.0]])
    assert "dtype int64: give float32" in refusal([1, 2, 3])
    assert "dtype" in refusal([None, 0.5])


def test_tensors_are_arrays() -> None:
    torch = pytest.importorskip("torch")
    for tensor in (torch.from_numpy(tone()), torch.from_numpy(tone()).requires_grad_(True)):
        np.testing.assert_array_equal(load_audio(tensor, RATE).samples, tone())
    assert load_audio((torch.from_numpy(tone(8000)), 8000), RATE).seconds == 1.0
    assert "transpose it" in refusal(torch.zeros(1, RATE))
    assert "give float32" in refusal(torch.zeros(RATE, dtype=torch.bfloat16))


def test_buffers_are_files_or_samples_by_the_size_of_their_items() -> None:
    data = encode(tone())
    expected = load_audio(data, RATE).samples
    for source in (bytearray(data), memoryview(data), memoryview(bytearray(data))):
        np.testing.assert_array_equal(load_audio(source, RATE).samples, expected)
    for buffer in (memoryview(tone()), array.array("f", tone().tolist())):
        np.testing.assert_array_equal(load_audio(buffer, RATE).samples, tone())
    assert "is empty" in refusal(bytearray())


# Length and memory


def over(limit: float) -> Callable[[str, float], None]:
    def check(place: str, seconds: float) -> None:
        if seconds > limit:
            raise AudioError(f"{place}: {seconds:.1f} s")

    return check


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "AIFF", "CAF", "AU", "NIST", "RF64", "W64"])
def test_the_limit_holds_on_the_header(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(np.zeros(60 * RATE, np.float32), kind=kind, subtype="PCM_16" if kind == "NIST" else None)
    load_audio(data, RATE, check_length=over(60.1))
    monkeypatch.setattr(soundfile, "SoundFile", None)  # nothing is decoded
    with pytest.raises(AudioError, match=r"audio bytes: \d\d\.\d s"):
        load_audio(data, RATE, check_length=over(10.0))


def test_the_limit_holds_while_decoding() -> None:
    """A header that says nothing of the length, and one of samples that are few but last long."""
    data = encode(np.zeros(60 * RATE, np.float32), kind="WAV", subtype="IMA_ADPCM")
    with pytest.raises(AudioError, match=r"audio bytes: 1\d\.\d s"):
        load_audio(data, RATE, check_length=over(10.0))
    with pytest.raises(AudioError, match=r"audio array: 10\.0 s"):
        load_audio(np.zeros(100, np.float32), RATE, source_rate=10, check_length=over(9.0))


# The peak of the process itself: ru_maxrss would begin with that of the test runner, and never grow.
MEASURE = """
import sys
import soundfile, soxr
from fastadasp.profiles.errors import AudioError
from fastadasp.runtime.audio.read import is_longer, load_audio
from fastadasp.runtime.environment import peak_resident_bytes

def check(place, seconds):
    if seconds > 30:
        raise AudioError("too long")

load_audio(sys.argv[1], 16000)
before = peak_resident_bytes()
for path in sys.argv[2:]:
    source = sys.stdin.buffer if path == "-" else path
    try:
        load_audio(source, 16000, check_length=check)
    except AudioError as error:
        assert "too long" in str(error), error
    else:
        raise SystemExit("taken")
print(peak_resident_bytes() - before)
"""


def test_hours_of_silence_take_no_memory(tmp_path: Path) -> None:
    short, known, unknown = (tmp_path / f"{name}.flac" for name in ("short", "known", "unknown"))
    soundfile.write(short, tone(), RATE)
    with soundfile.SoundFile(known, "w", 44100, 2) as file:
        for _ in range(60):
            file.write(np.zeros((60 * 44100, 2), np.int16))
    data = bytearray(known.read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    unknown.write_bytes(data)
    command = [sys.executable, "-c", MEASURE, short, known, unknown, "-"]
    with known.open("rb") as stream:
        done = subprocess.run(command, stdin=stream, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 30 << 20  # decoded it would be 1.2 GiB


@pytest.mark.parametrize("kind", ["file", "array", "blocks of any decoder"])
def test_few_samples_of_a_low_rate_become_many_a_little_at_a_time(kind: str) -> None:
    rate, samples = 100, tone(100, 700.0, 5.0)
    if kind == "file":
        parts = list(read_blocks(encode(samples, rate, subtype="FLOAT"), RATE))
    elif kind == "array":
        parts = list(read_blocks(samples, RATE, source_rate=rate))
    else:
        parts = list(mono_blocks([Block(samples[:, None], rate)], RATE, "audio"))
    assert max(map(len, parts)) < 20 * RATE
    np.testing.assert_array_equal(np.concatenate(parts), soxr.resample(samples, rate, RATE))


def test_a_clip_shorter_than_one_sample_of_the_model_is_refused() -> None:
    assert "1 sample(s) at 96000 Hz make none at 16000 Hz" in refusal(np.float32([1.0]), source_rate=96000)


def test_whether_audio_is_longer_is_told_to_a_sample() -> None:
    samples = np.full(RATE, 0.1, np.float32)
    assert not is_longer(samples, RATE, 1.0)
    assert is_longer(samples, RATE, 1.0 - 1 / RATE)
    with pytest.raises(AudioError, match="does not exist"):
        is_longer("missing.wav", RATE, 1.0)
