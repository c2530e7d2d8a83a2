"""Of every container: a part is refused or whole, several are all heard or refused, damage is refused."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastadasp.profiles.errors import AudioError
from fastadasp.runtime.audio.containers import table
from fastadasp.runtime.audio.read import load_audio
from fuzzing import no_hang

from .samples import FOLDER, HAS_PYAV, RATE, encoded, sample

NOISE = (0.1 * np.random.default_rng(0).standard_normal(9000)).astype(np.float32)
WRITTEN = {
    f"{kind} {codec}": encoded(NOISE, kind, subtype=codec)
    for kind, codec in [
        ("WAV", "PCM_16"),
        ("WAV", "IMA_ADPCM"),
        ("RF64", "FLOAT"),
        ("W64", "PCM_24"),
        ("AIFF", "PCM_16"),
        ("CAF", "ALAC_16"),
        ("AU", "ULAW"),
        ("NIST", "PCM_16"),
        ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", "MPEG_LAYER_III"),
    ]
}
NEED_PYAV = (".m4a", ".mp4", ".aac", ".webm", ".wma", ".amr", ".spx")
NAMES = sorted(path.name for path in FOLDER.iterdir() if path.suffix not in (".md", ".txt"))
FILES = {name: sample(name) for name in NAMES if HAS_PYAV or not name.endswith(NEED_PYAV)} | WRITTEN
# Nothing in them says how long they are: a part that ends with a whole frame is a file, too.
WITHOUT_LENGTH = {
    *("pipe.wav", "pipe.w64", "pipe.aiff", "pipe.caf", "pipe.au", "pipe.flac"),
    *("lame_no_tag.mp3", "lame_vbr_no_tag.mp3", "ffmpeg_vbr_no_tag.mp3", "sox.mp3", "layer2.mp2"),
    *("aac.aac", "amr.amr", "browser.webm", "fragments.mp4"),
}
pytestmark = pytest.mark.fuzz
ASKED = os.environ.get("FUZZ_EXAMPLES")
many = settings(
    max_examples=int(ASKED or 40), derandomize=ASKED is None, suppress_health_check=list(HealthCheck)
)


def stop_soon(place: str, seconds: float) -> None:
    if seconds > 60:
        raise AudioError(f"{place}: too long")


def attempt(data: bytes) -> np.ndarray | None:
    """The samples, or None where they are refused."""
    try:
        return load_audio(data, RATE, check_length=stop_soon).samples
    except AudioError:
        return None


@cache
def whole(name: str) -> np.ndarray:
    samples = attempt(FILES[name])
    assert samples is not None, name
    return samples


@pytest.mark.parametrize("name", FILES)
@many
@given(data=st.data())
def test_a_part_of_a_file_is_refused_or_is_all_of_its_audio(name: str, data: st.DataObject) -> None:
    size = len(FILES[name])
    near_the_end = st.integers(max(0, size - 200), size - 1)
    found = attempt(FILES[name][: data.draw(st.integers(0, size - 1) | near_the_end)])
    if found is None or name in WITHOUT_LENGTH:
        assert found is None or len(found) <= len(whole(name))
    else:
        np.testing.assert_array_equal(found, whole(name))


FAMILIES = {
    "WAV": ["speech.wav", "speech8k.wav", "WAV PCM_16", "WAV IMA_ADPCM"],
    "RF64": ["RF64 FLOAT"],
    "W64": ["known.w64", "W64 PCM_24"],
    "FLAC": ["known.flac", "pipe.flac", "FLAC PCM_16"],
    "Ogg": ["vorbis.ogg", "opus.opus", "flac.oga", "OGG VORBIS", "OGG OPUS"],
    "MP3": [name for name in FILES if name.endswith((".mp3", ".mp2"))] + ["MP3 MPEG_LAYER_III"],
    "AIFF": ["known.aiff", "AIFF PCM_16"],
    "CAF": ["known.caf", "CAF ALAC_16"],
    "AU": ["known.au", "AU ULAW"],
    "NIST": ["known.sph", "NIST PCM_16"],
    "MP4": [name for name in FILES if name.endswith((".m4a", ".mp4"))],
    "WebM": [name for name in FILES if name.endswith(".webm")],
    "WMA": [name for name in FILES if name.endswith(".wma")],
}
TRIMMED = 2 * 3 * 1152  # samples at the seams of mp3 files that a tag would have cut off


@pytest.mark.parametrize("family", [name for name, files in FAMILIES.items() if files])
@many
@given(data=st.data())
def test_files_in_one_are_all_heard_or_refused(family: str, data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(FAMILIES[family]), min_size=2, max_size=3))
    found = attempt(b"".join(FILES[name] for name in names))
    expected = sum(len(whole(name)) for name in names)
    if found is not None:
        more = TRIMMED if family == "MP3" else 2
        assert expected - 2 <= len(found) <= expected + more, names


def mutations() -> st.SearchStrategy[tuple[float, bytes, bool]]:
    """(place from 0 to 1, bytes, whether they are put in or take the place of others)."""
    numbers = st.sampled_from(
        [b"\0" * 4, b"\xff" * 4, b"\x7f" + b"\xff" * 3, b"\xff" * 3 + b"\x7f", b"\x80" + bytes(3)]
    )
    return st.tuples(st.floats(0, 1, exclude_max=True), numbers | st.binary(max_size=8), st.booleans())


@pytest.mark.parametrize("name", FILES)
@many
@given(changes=st.lists(mutations(), min_size=1, max_size=6), header=st.booleans())
def test_damage_gives_audio_or_an_audio_error_soon(
    name: str, changes: list[tuple[float, bytes, bool]], header: bool
) -> None:
    data = FILES[name]
    for place, new, put_in in changes:
        at = int(place * (min(len(data), 120) if header else len(data)))
        data = data[:at] + new + data[at + (0 if put_in else len(new)) :]
    with no_hang():
        attempt(data)


@many
@given(st.binary(max_size=300), st.sampled_from([b"", *(data[:64] for data in FILES.values())]))
def test_bytes_of_no_file_give_an_audio_error_soon(noise: bytes, start: bytes) -> None:
    with no_hang():
        attempt(start + noise)


def test_every_sample_is_of_a_container_of_the_table() -> None:
    for name in FILES:
        whole(name)
    assert set(table.REFUSED).isdisjoint(
        container.name for container in (*table.MADE_OF_SOUND, *table.BY_PYAV)
    )


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"FORM\0\0\0\x208SVXVHDR", "Amiga SVX"),
        (b"Creative Voice File\x1a", "Creative VOC"),
        (b"MATLAB 5.0 MAT-file", "MATLAB (MAT)"),
        (b"\x64\xa3\x02\0", "IRCAM (SF)"),
        (b"RIFF\x10\0\0\0AVI LIST", "AVI"),
        (b"wvpk\x10\0\0\0", "WavPack"),
        ((b"G" + bytes(187)) * 3, "MPEG transport stream"),
    ],
)
def test_containers_that_are_not_read_are_named(start: bytes, name: str) -> None:
    with pytest.raises(AudioError, match="which is not read; convert it to wav or flac") as caught:
        load_audio(start + bytes(1000), RATE)
    assert name in str(caught.value)


def test_the_page_on_audio_names_every_container_and_what_tells_its_end() -> None:
    page = (Path(__file__).parents[4] / "docs" / "audio.md").read_text("utf-8")
    for container in (*table.MADE_OF_SOUND, *table.BY_PYAV, table.MPEG):
        (line,) = (line for line in page.splitlines() if line.startswith(f"| {container.name} "))
        assert container.whole_by in line
    words = " ".join(page.split())
    for name in table.REFUSED:
        assert name in words
