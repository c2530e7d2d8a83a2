"""AIFF, CAF, AU and NIST: sizes that are known, unknown, too large."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from .samples import encoded, loaded, refusal, sample, wave

TONE = (0.5 * np.sin(np.arange(3000) / 5)).astype(np.float32)
CODECS = {
    "AIFF": ["PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"],
    "CAF": ["PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "ALAC_16"],
    "AU": ["PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"],
    "NIST": ["PCM_16", "PCM_24", "PCM_32", "ULAW", "ALAW"],
}
BOTH = [(kind, codec) for kind, codecs in CODECS.items() for codec in codecs]


@pytest.mark.parametrize(
    "name",
    ["known.aiff", "known.au", "known.caf", "known.sph", "pipe.aiff", "pipe.au", "pipe.caf"],
)
def test_files_of_other_writers_are_read(name: str) -> None:
    np.testing.assert_array_equal(loaded(sample(name)), wave("speech8k.wav"))


@pytest.mark.parametrize(("kind", "codec"), BOTH)
def test_every_codec_is_read_to_its_end(kind: str, codec: str) -> None:
    found = loaded(encoded(TONE, kind, subtype=codec))
    assert len(found) == len(TONE)
    assert np.corrcoef(found, TONE)[0, 1] > 0.99


@pytest.mark.parametrize(("kind", "codec"), BOTH)
def test_a_cut_is_found(kind: str, codec: str) -> None:
    data = encoded(TONE, kind, subtype=codec)
    for end in (len(data) - 3, len(data) // 2, 100, 30, 13):
        assert "is cut short" in refusal(data[:end]) or "header" in refusal(data[:end])


@pytest.mark.parametrize("codec", ["IMA_ADPCM", "GSM610", "DWVW_16"])
def test_codecs_of_aiff_without_a_size_of_a_sample_are_read(codec: str) -> None:
    data = encoded(TONE, "AIFF", subtype=codec)
    assert np.corrcoef(loaded(data)[: len(TONE)], TONE)[0, 1] > 0.9
    assert "is cut short" in refusal(data[: len(data) // 2])


@pytest.mark.parametrize("kind", ["AIFF", "CAF", "AU"])
def test_stereo_is_read(kind: str) -> None:
    assert len(loaded(encoded(np.stack([TONE, TONE / 2], axis=1), kind))) == len(TONE)


def test_au_of_the_other_byte_order_is_read() -> None:
    samples = (TONE * 32767).astype("<i2").tobytes()
    header = b"dns." + struct.pack("<5I", 24, len(samples), 3, 16000, 1)
    np.testing.assert_allclose(loaded(header + samples), TONE, atol=1e-4)


@pytest.mark.parametrize("kind", ["AIFF", "CAF", "AU", "NIST"])
def test_several_files_in_one_are_refused(kind: str) -> None:
    data = encoded(TONE, kind)
    message = refusal(data + data)
    assert "holds several files" in message or "bytes follow the 3000 samples" in message


def test_an_aiff_whose_format_promises_more_than_its_samples_is_refused() -> None:
    data = bytearray(encoded(TONE, "AIFF"))
    at = data.index(b"COMM") + 10
    data[at : at + 4] = (4000).to_bytes(4, "big")
    assert "is cut short: 6000 bytes of samples, its header promises 8000" in refusal(bytes(data))


def test_a_rate_that_is_none_is_refused() -> None:
    data = bytearray(encoded(TONE, "AIFF"))
    at = data.index(b"COMM") + 16
    data[at : at + 2] = b"\x7f\xff"
    assert "is corrupt" in refusal(bytes(data))
