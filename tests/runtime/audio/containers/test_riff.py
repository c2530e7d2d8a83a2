"""WAV and its kin: every size field that writers leave behind, every codec, files in one."""

from __future__ import annotations

import struct
from itertools import product

import numpy as np
import pytest

from fastadasp.runtime.audio.recording import Recording

from .samples import encoded, loaded, refusal, sample

TONE = (0.5 * np.sin(np.arange(8000) / 5)).astype(np.float32)
WAV = encoded(TONE, "WAV")
PLAIN = loaded(WAV)
LIST = b"LIST" + struct.pack("<I", 18) + b"INFOISFT\6\0\0\0hello\0"


def with_sizes(data: bytes, riff: int | None = None, samples: int | None = None) -> bytes:
    """Other numbers in the header of a file that libsndfile wrote: 44 bytes and the samples."""
    if riff is not None:
        data = data[:4] + struct.pack("<I", riff) + data[8:]
    return data if samples is None else data[:40] + struct.pack("<I", samples) + data[44:]


@pytest.mark.parametrize("riff", [0, 36, 0x7FFFFFFF, 0xFFFFFFFF, len(WAV) - 8, 8036])
@pytest.mark.parametrize(
    "samples", [0, 0x7FFFFFFF, 0x80000000, 0x7FFFF000, 0xFFFFFFFF, 0xFFFFFFFF - 36, 2, 8000]
)
def test_whatever_the_writer_left_in_its_header_all_samples_are_heard(riff: int, samples: int) -> None:
    np.testing.assert_array_equal(loaded(with_sizes(WAV, riff, samples)), PLAIN)


@pytest.mark.parametrize(
    "behind", [LIST, b"id3 \4\0\0\0abcd", LIST + LIST, b"\0" * 5000, b"TAG" + bytes(125), b"\n"]
)
def test_what_is_no_sample_is_left_out(behind: bytes) -> None:
    np.testing.assert_array_equal(loaded(WAV + behind), PLAIN)
    np.testing.assert_array_equal(loaded(WAV + behind[:-1]), PLAIN)


def test_an_odd_size_may_be_padded_or_not() -> None:
    odd = encoded(TONE[:7999], "WAV", subtype="PCM_U8")
    assert len(odd) % 2 == 0
    expected = loaded(odd)
    assert len(expected) == 7999
    for data in (odd[:-1], odd[:-1] + LIST, odd + LIST):
        np.testing.assert_array_equal(loaded(data), expected)


def test_chunks_before_the_samples_are_passed_over() -> None:
    for chunk in (LIST, b"JUNK\3\0\0\0abc\0", b"bext" + struct.pack("<I", 602) + bytes(602)):
        np.testing.assert_array_equal(loaded(WAV[:12] + chunk + WAV[12:]), PLAIN)


def test_a_size_of_zero_before_other_chunks_is_no_audio() -> None:
    assert "holds no samples" in refusal(with_sizes(WAV[:44], 36 + len(LIST), 0) + LIST)


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64", "W64"])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
def test_a_cut_is_found_at_every_byte(kind: str, subtype: str) -> None:
    data = encoded(TONE[:200], kind, subtype=subtype)
    assert len(loaded(data)) == 200
    for end in range(1, len(data) - 1):  # the last byte may be padding
        assert "is cut short" in refusal(data[:end]) or "is corrupt" in refusal(data[:end])


CODECS = "PCM_U8", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "GSM610"
OF_WAV = "G721_32", "NMS_ADPCM_16"  # libsndfile writes them into nothing else


@pytest.mark.parametrize(("kind", "subtype"), [*product(("WAV", "W64"), CODECS), *product(("WAV",), OF_WAV)])
def test_every_codec_is_read_under_any_size(kind: str, subtype: str) -> None:
    data = encoded(TONE, kind, subtype=subtype)
    found = loaded(data)
    assert np.corrcoef(found[:8000], PLAIN)[0, 1] > 0.9
    at = data.rindex(b"data") + 4
    unknown = b"\xff" * 4 if kind == "WAV" else data[at : at + 12] + b"\xff" * 7 + b"\x7f"
    np.testing.assert_array_equal(
        loaded(data[:at] + unknown + data[at + len(unknown) :])[:8000], found[:8000]
    )


def test_blocks_of_adpcm_meet_without_a_seam() -> None:
    long = (0.5 * np.sin(np.arange(240000) / 5)).astype(np.float32)
    for subtype in ("IMA_ADPCM", "MS_ADPCM", "GSM610"):
        found = loaded(encoded(long, "WAV", subtype=subtype))[: len(long)]
        error = np.abs(found - long)
        assert error[1000:].max() < 0.3, subtype


def test_big_endian_files_are_read() -> None:
    samples = np.frombuffer(WAV[44:], "<i2").astype(">i2").tobytes()
    form = struct.pack(">HHIIHH", 1, 1, 16000, 32000, 2, 16)
    body = b"WAVEfmt " + struct.pack(">I", 16) + form + b"data" + struct.pack(">I", len(samples)) + samples
    np.testing.assert_array_equal(loaded(b"RIFX" + struct.pack(">I", len(body)) + body), PLAIN)


@pytest.mark.parametrize("kind", ["WAV", "RF64", "W64"])
def test_files_in_one_are_all_heard(kind: str) -> None:
    first, second = encoded(TONE, kind), encoded(TONE[:4000], kind, 8000, "PCM_24")
    expected = np.concatenate([loaded(first), loaded(second)])
    np.testing.assert_array_equal(loaded(first + second), expected)
    assert "is cut short" in refusal(first + second[:-10])


def test_samples_in_two_places_are_refused() -> None:
    again = b"data" + struct.pack("<I", 4000) + WAV[44:4044]
    assert "holds samples in more than one place" in refusal(WAV + LIST + again)


def test_a_codec_that_is_not_read_is_named() -> None:
    assert "holds codec 0x0161, which is not read in wav" in refusal(WAV[:20] + b"\x61\x01" + WAV[22:])


@pytest.mark.parametrize("name", ["pipe.wav", "pipe.w64", "known.w64"])
def test_files_of_other_writers_are_read(name: str) -> None:
    np.testing.assert_array_equal(loaded(sample(name)), loaded(sample("speech8k.wav")))


def test_the_size_of_rf64_is_taken_from_its_long_field(tmp_path_factory: pytest.TempPathFactory) -> None:
    data = encoded(TONE, "RF64")
    assert data[:4] == b"RF64" or data[:4] == b"RIFF"
    long = b"RF64\xff\xff\xff\xffWAVEds64" + struct.pack("<IQQQI", 28, 0, 16000, 8000, 0) + WAV[12:40]
    whole = long + b"\xff" * 4 + WAV[44:]
    np.testing.assert_array_equal(loaded(whole), PLAIN)
    np.testing.assert_array_equal(loaded(whole + LIST), PLAIN)
    assert "is cut short: 15990 of 16000 bytes of samples" in refusal(whole[:-10])


def test_samples_beyond_32_bits_are_given_in_slices(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A file of 5 GiB that takes no room on the disk."""
    from fastadasp.runtime.audio.containers import riff

    path = tmp_path_factory.mktemp("long") / "long.wav"
    size = 5 << 30
    with path.open("wb") as file:
        file.write(b"RF64\xff\xff\xff\xffWAVEds64" + struct.pack("<IQQQI", 28, 0, size, size // 2, 0))
        file.write(WAV[12:40] + b"\xff" * 4)
        file.truncate(file.tell() + size)
    with path.open("rb") as stream:
        recording = Recording(stream, "long")
        (wav,) = riff._files(recording, 0)
        links = list(riff._links(wav))
    assert sum(link.expected or 0 for link in links) == size // 2
    assert len(links) == 5
