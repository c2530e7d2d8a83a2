"""MP3: the frames are counted, the tag says whether they are all there, and decoders keep silent."""

from __future__ import annotations

import numpy as np
import pytest

from fastadasp.runtime.audio.read import load_audio

from .samples import RATE, likeness, loaded, refusal, sample, wave

TAGGED = ["lame_tag.mp3", "lame_vbr.mp3", "lame_id3.mp3", "ffmpeg_tag.mp3"]
UNTAGGED = ["lame_no_tag.mp3", "lame_vbr_no_tag.mp3", "ffmpeg_vbr_no_tag.mp3", "sox.mp3"]
ID3V1 = b"TAG" + bytes(125)
APE_FOOTER = b"APETAGEX" + b"".join(n.to_bytes(4, "little") for n in (2000, 32 + 60, 1, 0)) + bytes(8)
TRAILERS = {
    "ID3v1": ID3V1,
    "APE": b"x" * 60 + APE_FOOTER,
    "APE and ID3v1": b"x" * 60 + APE_FOOTER + ID3V1,
    "Lyrics3": b"LYRICSBEGIN" + b"la " * 20 + b"LYRICSEND" + ID3V1,
    "Lyrics3 v2": b"LYRICSBEGIN" + b"la " * 20 + b"000071LYRICS200" + ID3V1,
    "zeros": bytes(2048),
    "a stray line": b"\n",
}


@pytest.mark.parametrize("name", TAGGED)
def test_the_length_of_the_tag_is_kept_to_the_sample(name: str) -> None:
    found = loaded(sample(name))
    assert len(wave()) <= len(found) <= len(wave()) + 16  # FFmpeg's tag is a little generous
    assert np.corrcoef(found[: len(wave())], wave())[0, 1] > 0.99


@pytest.mark.parametrize("name", UNTAGGED)
def test_without_a_tag_every_frame_is_heard(name: str) -> None:
    assert len(loaded(sample(name))) == 15 * 576
    assert likeness(loaded(sample(name)), wave()) > 0.99


def test_layer_2_is_read() -> None:
    assert likeness(loaded(sample("layer2.mp2")), wave()) > 0.98


@pytest.mark.parametrize("trailer", TRAILERS.values(), ids=TRAILERS.keys())
@pytest.mark.parametrize("name", ["lame_tag.mp3", "sox.mp3"])
def test_what_stands_behind_the_frames_is_no_audio(name: str, trailer: bytes) -> None:
    np.testing.assert_array_equal(loaded(sample(name) + trailer), loaded(sample(name)))


@pytest.mark.parametrize("name", TAGGED)
def test_a_cut_is_found_by_the_tag(name: str) -> None:
    data = sample(name).removesuffix(sample(name)[-128:] if sample(name)[-128:-125] == b"TAG" else b"")
    for end in (len(data) // 2, len(data) - 100, len(data) - 1):
        assert "is cut short" in refusal(data[:end])
    assert "9 of 15 frames" in refusal(sample("lame_tag.mp3")[:2880])  # on the border of two frames
    assert "is cut short" in refusal(data[: len(data) // 2] + ID3V1)


@pytest.mark.parametrize("name", UNTAGGED)
def test_a_cut_is_found_by_the_last_frame(name: str) -> None:
    data = sample(name)
    for end in (len(data) - 1, len(data) - 20, len(data) - 33):
        assert "is cut short" in refusal(data[:end])


@pytest.mark.parametrize("gap", [300, 2])
def test_a_gap_in_the_middle_is_refused(gap: int) -> None:
    for name in ("lame_tag.mp3", "sox.mp3"):
        data = sample(name)
        assert "is corrupt" in refusal(data[:1000] + data[1000 + gap :])
        assert "is corrupt" in refusal(data[:1000] + bytes(500) + data[1500:])


def test_files_in_one_are_all_heard() -> None:
    parts = [sample(name) for name in ("lame_tag.mp3", "lame_id3.mp3", "ffmpeg_tag.mp3")]
    expected = np.concatenate([loaded(part) for part in parts])
    assert len(loaded(b"".join(parts))) == len(expected)
    assert np.corrcoef(loaded(b"".join(parts)), expected)[0, 1] > 0.999


@pytest.mark.parametrize("first", ["lame_tag.mp3", "sox.mp3"])
def test_a_rate_that_changes_midway_is_heard_to_the_end(first: str) -> None:
    parts = [sample(first), sample("lame_stereo_44k.mp3")]
    expected = np.concatenate([loaded(part) for part in parts])
    found = loaded(b"".join(parts))
    assert len(found) == len(expected)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_start_in_the_middle_of_a_frame_is_passed_over() -> None:
    data, whole = sample("lame_vbr_no_tag.mp3"), loaded(sample("lame_vbr_no_tag.mp3"))
    found = loaded(data[1000:])
    assert 0.4 * len(whole) < len(found) < len(whole)
    np.testing.assert_allclose(found[-576:], whole[-576:], atol=1e-4)


def test_mp3_in_wav_is_read() -> None:
    data = sample("lame_tag.mp3")
    form = bytes.fromhex("55000100803e0000401f000001000000") + bytes.fromhex("0c0001000200000020010100710500")
    form += bytes(len(form) % 2)
    chunks = (
        b"fmt " + len(form).to_bytes(4, "little") + form + b"data" + len(data).to_bytes(4, "little") + data
    )
    riff = b"RIFF" + (len(chunks) + 4).to_bytes(4, "little") + b"WAVE" + chunks
    np.testing.assert_array_equal(loaded(riff), loaded(data))
    assert "is cut short" in refusal(riff[:-10])


def test_free_format_is_named() -> None:
    data = bytearray(sample("sox.mp3"))
    data[2] &= 0x0F
    assert "free format" in refusal(bytes(data[:108]))


def test_blocks_meet_without_a_seam() -> None:
    """python-soundfile seeks after each block; the frame behind the seek then lacks bits of those before."""
    data = sample("lame_vbr_no_tag.mp3")
    long = data * 20  # 11 s, three blocks
    found = loaded(long)
    first, last = found[8640:17280], found[-8640:]
    np.testing.assert_allclose(first, last, atol=1e-4)


@pytest.mark.parametrize("name", [*TAGGED, *UNTAGGED, "lame_stereo_44k.mp3", "layer2.mp2"])
def test_nothing_is_printed(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    data, random = sample(name), np.random.default_rng(0)
    damaged = []
    for _ in range(40):
        bad = bytearray(data)
        for at in random.integers(0, len(data), 20):
            bad[at] ^= 1 << int(random.integers(8))
        damaged.append(bytes(bad))
    for attempt in (data, data[: len(data) // 2], data[1000:], data + ID3V1, data * 2, *damaged):
        try:
            load_audio(attempt, RATE)
        except ValueError:
            continue
    assert capfd.readouterr() == ("", "")
