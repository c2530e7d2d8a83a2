"""FLAC: known and unknown lengths, joined files, FLAC in Ogg, and frames that are missing."""

from __future__ import annotations

import numpy as np
import pytest

from fastadasp.runtime.audio.containers import flac

from .samples import RATE, encoded, loaded, refusal, sample, wave

NOISE = (0.1 * np.random.default_rng(0).standard_normal(20000)).astype(np.float32)
TOTAL_AT = 8 + 13  # where the number of samples begins, with 4 bits of another field


def of_unknown_length(data: bytes) -> bytes:
    return data[:TOTAL_AT] + bytes([data[TOTAL_AT] & 0xF0]) + bytes(4) + data[TOTAL_AT + 5 :]


@pytest.mark.parametrize("name", ["known.flac", "pipe.flac", "flac.oga"])
def test_it_is_lossless(name: str) -> None:
    np.testing.assert_array_equal(loaded(sample(name)), wave("speech8k.wav"))


def test_an_unknown_length_is_that_of_the_frames() -> None:
    data = encoded(NOISE, "FLAC")
    np.testing.assert_array_equal(loaded(of_unknown_length(data)), loaded(data))
    np.testing.assert_array_equal(loaded(of_unknown_length(data) + b"TAG" + bytes(125)), loaded(data))


@pytest.mark.parametrize("whole", [encoded(NOISE, "FLAC"), of_unknown_length(encoded(NOISE, "FLAC"))])
def test_a_cut_within_a_frame_is_found(whole: bytes) -> None:
    for end in (len(whole) - 1, len(whole) - 2, len(whole) - 1000, len(whole) // 2, 60, 45):
        assert "is cut short" in refusal(whole[:end]) or "lost sync" in refusal(whole[:end])


def test_a_cut_between_frames_is_found_by_the_length() -> None:
    data = encoded(NOISE, "FLAC")
    second = next(
        at for at in range(5000, len(data)) if data[at : at + 2] == b"\xff\xf8" and data[at + 4] == 1
    )
    assert "4096 of 20000 samples" in refusal(data[:second])


def test_frames_that_are_missing_in_the_middle_are_found() -> None:
    data = encoded(NOISE, "FLAC")
    for bad in (data, of_unknown_length(data)):
        assert "is cut short" in refusal(bad[:3000] + bad[20000:]) or "is corrupt" in refusal(bad)


def test_joined_files_are_all_heard() -> None:
    first, second = encoded(NOISE, "FLAC"), encoded(-NOISE[:7000], "FLAC", 8000)
    expected = np.concatenate([loaded(first), loaded(second)])
    for joined in (first + second, of_unknown_length(first) + of_unknown_length(second)):
        np.testing.assert_array_equal(loaded(joined), expected)
    assert "lost sync" in refusal(first + second[:-10])
    assert "is cut short" in refusal(first + of_unknown_length(second)[:-10])


def test_a_header_that_lies_about_the_length_is_refused() -> None:
    data = bytearray(encoded(NOISE, "FLAC"))
    data[TOTAL_AT + 1 : TOTAL_AT + 5] = (1000).to_bytes(4, "big")
    assert "more samples follow than the 1000 that its header promises" in refusal(bytes(data))


def test_something_else_behind_the_frames_is_refused() -> None:
    assert "is corrupt" in refusal(encoded(NOISE, "FLAC") + encoded(NOISE, "WAV"))


@pytest.mark.parametrize("channels", [1, 2, 8])
@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_16", "PCM_24"])
@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000, 96000, 11025, 192000, 12345])
def test_headers_of_frames_are_understood_at_every_rate_and_width(
    channels: int, subtype: str, rate: int
) -> None:
    frames = np.stack([NOISE * (1 - 0.1 * i) for i in range(channels)], axis=1)
    data = encoded(frames, "FLAC", rate, subtype)
    np.testing.assert_array_equal(loaded(of_unknown_length(data)), loaded(data))


def test_numbers_of_frames_are_decoded_up_to_36_bits() -> None:
    for number in (
        0,
        0x7F,
        0x80,
        0x7FF,
        0x800,
        0xFFFF,
        0x10000,
        0x1FFFFF,
        0x3FFFFFF,
        0x7FFFFFFF,
        (1 << 36) - 1,
    ):
        assert flac._coded_number(coded(number) + b"\0", 0) == (number, len(coded(number)))
    for bad in (b"\x80\x80", b"\xff\x80\x80", b"\xc2\x00", b"\xe0"):
        assert flac._coded_number(bad, 0)[0] == -1


def coded(number: int) -> bytes:
    """A number as FLAC writes it, like UTF-8 but longer."""
    if number < 0x80:
        return bytes([number])
    tail = []
    limit = 0x20
    while True:
        tail.insert(0, 0x80 | number & 0x3F)
        number >>= 6
        if number < limit:
            break
        limit >>= 1
    ones = len(tail) + 1
    return bytes([0xFF << 8 - ones & 0xFF | number, *tail])


def test_a_rate_of_the_model_needs_no_resampling() -> None:
    assert len(loaded(encoded(NOISE, "FLAC", RATE))) == len(NOISE)
