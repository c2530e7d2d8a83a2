"""Files of browsers and phones: read with PyAV, refused with the remedy without it, their ends checked."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from .samples import likeness, loaded, needs_pyav, refusal, sample, wave

FILES = ["aac.m4a", "aac.aac", "fragments.mp4", "known.webm", "browser.webm", "wma.wma"]
OF_8K = ["alac.m4a", "amr.amr"]
ALL = FILES + OF_8K
# Their end is known by nothing: they may be cut between two frames.
ENDLESS = {"aac.aac", "amr.amr", "browser.webm", "fragments.mp4"}


@needs_pyav
@pytest.mark.parametrize("name", FILES)
def test_it_is_read(name: str) -> None:
    found = loaded(sample(name))
    assert 6000 < len(found) < 9000
    assert likeness(found, wave()) > 0.9


@needs_pyav
def test_it_is_read_at_8_khz_too() -> None:
    np.testing.assert_allclose(loaded(sample("alac.m4a")), wave("speech8k.wav"), atol=1e-6)
    assert likeness(loaded(sample("amr.amr")), wave("speech8k.wav")) > 0.5


@pytest.mark.parametrize("name", ALL)
def test_without_pyav_the_extra_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    assert 'pip install "fastadasp-export[media]", or convert it to wav' in refusal(sample(name))


@pytest.mark.parametrize("name", ALL)
def test_a_cut_is_found_with_pyav_or_without(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    data = sample(name)
    ends = range(30, len(data), 7)
    found = ["is cut short" in refusal(data[:end]) for end in ends]
    assert np.mean(found) > (0.9 if name in ENDLESS else 0.97)
    assert "is cut short" in refusal(data[:-1])


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("aac.aac", "amr.amr")])
def test_several_files_in_one_are_refused(name: str) -> None:
    assert "holds several files, one after the other" in refusal(sample(name) * 2)


@needs_pyav
@pytest.mark.parametrize("name", ["aac.aac"])
def test_frames_of_two_files_are_all_heard(name: str) -> None:
    assert len(loaded(sample(name) * 2)) == 2 * len(loaded(sample(name)))


@needs_pyav
def test_something_between_frames_is_refused() -> None:
    data = sample("aac.aac")
    assert "is cut short" in refusal(data[:700] + data[710:]) or "is corrupt" in refusal(
        data[:700] + data[710:]
    )


@needs_pyav
def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    for name in ALL:
        for _ in range(20):
            data = bytearray(sample(name))
            for at in random.integers(0, len(data), 5):
                data[at] ^= 1 << int(random.integers(8))
            try:
                loaded(bytes(data))
            except ValueError:
                continue
    assert capfd.readouterr() == ("", "")
