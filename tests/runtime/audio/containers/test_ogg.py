"""Ogg: chains, streams side by side, pages that are missing or damaged, broadcasts."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from fastadasp.profiles.errors import RequestCancelled
from fastadasp.runtime.audio.containers import ogg
from fastadasp.runtime.audio.containers.ogg import check_sum
from fastadasp.runtime.audio.read import load_audio

from .samples import RATE, encoded, likeness, loaded, needs_pyav, refusal, sample, wave

FILES = ["vorbis.ogg", "opus.opus", "flac.oga"]


def pages(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        segments = data[at + 26]
        end = at + 27 + segments + sum(data[at + 27 : at + 27 + segments])
        found.append(data[at:end])
        at = end
    return found


def changed(page: bytes, offset: int, value: bytes) -> bytes:
    """The page with other bytes and the check sum that they need."""
    page = page[:offset] + value + page[offset + len(value) :]
    page = page[:22] + bytes(4) + page[26:]
    return page[:22] + check_sum(page).to_bytes(4, "little") + page[26:]


def late(data: bytes, granules: int) -> bytes:
    """The stream as a recording of a broadcast has it: positions do not begin at 0."""
    moved = []
    for page in pages(data):
        (granule,) = struct.unpack("<q", page[6:14])
        moved.append(changed(page, 6, struct.pack("<q", granule + granules)) if granule > 0 else page)
    return b"".join(moved)


@pytest.mark.parametrize("name", FILES)
def test_it_has_the_length_of_the_original(name: str) -> None:
    original = wave("speech8k.wav" if name == "flac.oga" else "speech.wav")
    found = loaded(sample(name))
    assert len(found) == len(original)
    assert np.corrcoef(found, original)[0, 1] > 0.98


def test_check_sums_are_those_of_the_encoders() -> None:
    for name in FILES:
        for page in pages(sample(name)):
            assert changed(page, 0, b"OggS") == page


@pytest.mark.parametrize("names", [("vorbis.ogg", "vorbis.ogg"), ("opus.opus", "vorbis.ogg"), tuple(FILES)])
def test_all_links_of_a_chain_are_heard(names: tuple[str, ...]) -> None:
    parts = [sample(name) for name in names]
    expected = np.concatenate([loaded(part) for part in parts])
    found = loaded(b"".join(parts))
    assert len(found) == len(expected)
    assert np.corrcoef(found, expected)[0, 1] > 0.999


@pytest.mark.parametrize("name", FILES)
def test_every_cut_is_found(name: str) -> None:
    data = sample(name)
    last = len(data) - len(pages(data)[-1])
    for end in (len(data) - 1, len(data) // 2, last, last + 1, last + 30):
        assert "is cut short" in refusal(data[:end]) or "is corrupt" in refusal(data[:end])
    assert "its last page is missing" in refusal(data[:last])
    assert "is cut short" in refusal(data + data[:last])


def test_a_page_that_is_missing_is_found() -> None:
    whole = pages(encoded(np.random.default_rng(0).standard_normal(160000) * 0.1, "OGG"))
    assert len(whole) > 5
    assert "pages are missing" in refusal(b"".join(whole[:3] + whole[4:]))
    assert "is corrupt" in refusal(b"".join(whole[:3]) + whole[3][100:] + b"".join(whole[4:]))


def test_a_flipped_bit_is_found_by_the_check_sum() -> None:
    data = bytearray(sample("vorbis.ogg"))
    data[-100] ^= 4
    assert "the check sum of the page" in refusal(bytes(data))


def side_by_side(first: bytes, second: bytes) -> bytes:
    """Two streams of one link, page by page in turn."""
    one, two = pages(first), pages(second)
    two = [changed(page, 14, b"\x01\x02\x03\x04") for page in two]
    mixed = [one[0], two[0]]
    for index in range(1, max(len(one), len(two))):
        mixed += one[index : index + 1] + two[index : index + 1]
    return b"".join(mixed)


def test_a_stream_beside_the_audio_is_left_out() -> None:
    video = [changed(page, 27 + page[26], b"\x80theora") for page in pages(sample("opus.opus"))[:1]]
    data = side_by_side(sample("vorbis.ogg"), b"".join(video))
    np.testing.assert_array_equal(loaded(data), loaded(sample("vorbis.ogg")))


def test_two_streams_of_audio_are_refused() -> None:
    data = side_by_side(sample("vorbis.ogg"), sample("opus.opus"))
    assert "holds 2 streams of audio (Vorbis, Opus); give one of them as a file" in refusal(data)


def test_no_audio_is_refused() -> None:
    page = pages(sample("opus.opus"))[0]
    assert "without Vorbis, Opus" in refusal(changed(page, 27 + page[26], b"\x80theora"))


def beginnings(count: int) -> bytes:
    """First pages of so many streams, none of which is audio."""
    page = changed(pages(sample("opus.opus"))[0], 28, b"\x80theora")
    return b"".join(changed(page, 14, serial.to_bytes(4, "little")) for serial in range(count))


def test_many_streams_side_by_side_are_not_gone_through_for_each_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked = 0

    class Counted(ogg.Stream):
        def __getattribute__(self, name: str) -> Any:
            nonlocal looked
            looked += name == "pages"
            return super().__getattribute__(name)

    monkeypatch.setattr(ogg, "Stream", Counted)
    assert "without Vorbis, Opus" in refusal(beginnings(1000))
    assert looked < 10 * 1000


def test_pages_that_tell_no_length_end_with_their_request() -> None:
    def end(place: str, seconds: float) -> None:
        raise RequestCancelled(f"{place}: {seconds}")

    assert "without Vorbis, Opus" in refusal(beginnings(300))
    with pytest.raises(RequestCancelled, match=r"audio bytes: 0\.0"):
        load_audio(beginnings(300), RATE, check_length=end)


def in_small_packets(count: int) -> bytes:
    """FLAC whose pages have 255 packets of one byte each, which look like frames."""
    first = pages(sample("flac.oga"))[0]
    full = changed(
        first[:5] + b"\0" + bytes(8) + first[14:26] + bytes([255]) + b"\1" * 255 + b"\xff" * 255, 0, b""
    )
    numbered = (changed(full, 18, number.to_bytes(4, "little")) for number in range(1, count + 1))
    *others, last = numbered
    return first + b"".join(others) + changed(last, 5, bytes([ogg.LAST]))


def test_small_packets_of_flac_end_with_their_request() -> None:
    looks = 0

    def end(place: str, seconds: float) -> None:
        nonlocal looks
        looks += seconds == 0.0
        if looks > 2:  # those of the pages themselves
            raise RequestCancelled(place)

    data = in_small_packets(600)
    assert "is cut short" in refusal(data)
    with pytest.raises(RequestCancelled):
        load_audio(data, RATE, check_length=end)


def test_small_packets_of_flac_are_few_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []

    def counted(recording: Any, pieces: Any) -> Any:
        counts.append(len(pieces))
        return stream_of(recording, pieces)

    stream_of = ogg.stream_of
    monkeypatch.setattr(ogg, "stream_of", counted)
    assert "is cut short" in refusal(in_small_packets(10))
    assert counts == [1 + 10], "the header, and one for each page"


def test_something_else_behind_the_last_page_is_refused() -> None:
    assert "is corrupt" in refusal(sample("vorbis.ogg") + sample("speech.wav"))
    assert len(loaded(sample("vorbis.ogg") + b"\n")) == len(wave())


def test_flac_of_unknown_length_in_ogg_is_read() -> None:
    first, *rest = pages(sample("flac.oga"))
    total_at = 27 + 1 + 9 + 8 + 13
    first = changed(first, total_at, bytes([first[total_at] & 0xF0]) + bytes(4))
    np.testing.assert_array_equal(loaded(first + b"".join(rest)), wave("speech8k.wav"))


def test_a_broadcast_of_vorbis_is_read() -> None:
    assert abs(len(loaded(late(sample("vorbis.ogg"), 10**7))) - len(wave())) < 1200


@needs_pyav
def test_a_broadcast_of_opus_is_read() -> None:
    assert abs(len(loaded(late(sample("opus.opus"), 10**8))) - len(wave())) < 1200


@needs_pyav
def test_speex_is_read() -> None:
    assert likeness(loaded(sample("speex.spx")), wave("speech8k.wav")) > 0.5
    assert "is cut short" in refusal(sample("speex.spx")[:-10])
