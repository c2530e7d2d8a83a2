"""Speech in recordings whose parts are known: found where it is, whatever the file and however it is read."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from demo_files import CLIPS
from fastadasp.profiles.errors import ArtifactError
from fastadasp.runtime import SegmentOptions
from fastadasp.runtime.audio.read import load_audio, read_blocks
from fastadasp.runtime.segments import voice
from fastadasp.runtime.segments.options import FRAME, RATE
from fastadasp.runtime.segments.speech import Kept, Listener, Speech

Array = npt.NDArray[np.float32]

FRAME_SECONDS = FRAME / RATE
OPTIONS = SegmentOptions()


@cache
def human() -> tuple[Array, ...]:
    return tuple(load_audio(path, RATE).samples for path in sorted(CLIPS.parent.glob("*.flac")))


@cache
def recording() -> tuple[Array, tuple[tuple[float, float], ...]]:
    """All clips with pauses of 1 to 3 s, and where each one lies, in seconds."""
    draw, parts, places, at = np.random.default_rng(5), [], [], 0
    for clip in human():
        pause = draw.normal(0.0, 3e-4, int(draw.uniform(1.0, 3.0) * RATE)).astype(np.float32)
        parts += [pause, clip]
        places.append(((at + len(pause)) / RATE, (at + len(pause) + len(clip)) / RATE))
        at += len(pause) + len(clip)
    return np.concatenate(parts), tuple(places)


def blocks_of(samples: Array, sizes: list[int]) -> Iterator[Array]:
    at, number = 0, 0
    while at < len(samples):
        yield samples[at : at + sizes[number % len(sizes)]]
        at, number = at + sizes[number % len(sizes)], number + 1


def heard(samples: Array, sizes: list[int], rate: int = RATE, longest: float = 30.0) -> list[Speech]:
    return list(Listener(rate, OPTIONS.rules(longest)).listen(blocks_of(samples, sizes)))


def times(found: list[Speech]) -> list[tuple[float, float]]:
    return [(speech.start, speech.end) for speech in found]


def check_places(found: list[Speech]) -> None:
    """One segment a clip, which begins and ends close to it, however late in the recording."""
    places = recording()[1]
    assert len(found) == len(places)
    for speech, (start, end) in zip(found, places, strict=True):
        assert start - 0.25 <= speech.start <= start + 0.4
        assert end - 0.6 <= speech.end <= end + 0.25


def test_segments_lie_where_the_clips_are_and_hold_their_samples() -> None:
    samples, _ = recording()
    found = heard(samples, [len(samples)])
    check_places(found)
    for speech in found:
        np.testing.assert_array_equal(
            speech.samples, samples[round(speech.start * RATE) : round(speech.end * RATE)]
        )


@settings(max_examples=8)
@given(sizes=st.lists(st.integers(1000, 300_000), min_size=1, max_size=4))
def test_the_size_of_the_blocks_changes_nothing(sizes: list[int]) -> None:
    samples, _ = recording()
    whole, parts = heard(samples, [len(samples)]), heard(samples, sizes)
    assert times(whole) == times(parts)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)


def test_runs_of_the_model_give_what_one_run_over_all_gives() -> None:
    samples, _ = recording()
    stream = voice.VoiceActivity()
    found = [*stream.take(samples), *stream.finish()]
    assert len(found) > 3
    frames = np.pad(samples, (0, -len(samples) % FRAME)).reshape(-1, FRAME)
    whole = voice.VoiceActivity()._run(frames)
    joined = np.concatenate([part.probabilities for part in found])
    np.testing.assert_allclose(joined, whole.probabilities, atol=1e-5)
    assert ((joined >= OPTIONS.threshold) == (whole.probabilities >= OPTIONS.threshold)).all()
    np.testing.assert_array_equal(np.concatenate([part.powers for part in found]), whole.powers)


@pytest.mark.parametrize(
    ("rate", "channels", "kind"),
    [(8000, 1, "WAV"), (44100, 2, "WAV"), (44100, 2, "MP3"), (48000, 1, "OGG"), (22050, 1, "FLAC")],
)
def test_files_of_all_kinds_give_the_same_places(rate: int, channels: int, kind: str) -> None:
    samples = np.repeat(soxr.resample(recording()[0], RATE, rate)[:, None], channels, axis=1)
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", rate, channels, format=kind) as written:
        for at in range(0, len(samples), 1 << 14):  # Vorbis: libsndfile's stack does not hold all at once
            written.write(samples[at : at + (1 << 14)])
    listener = Listener(RATE, OPTIONS.rules(30.0))
    check_places(list(listener.listen(read_blocks(file.getvalue(), RATE))))
    assert listener.seconds == pytest.approx(len(recording()[0]) / RATE, abs=0.01)


@pytest.mark.parametrize("rate", [8000, 24000, 44100])
def test_a_model_of_another_rate_gets_samples_at_its_own(rate: int) -> None:
    samples = soxr.resample(recording()[0], RATE, rate)
    found = heard(samples, [50_000], rate)
    check_places(found)
    for speech in found:
        start = round(speech.start * rate)
        np.testing.assert_array_equal(speech.samples, samples[start : start + len(speech.samples)])


def test_speech_without_a_pause_is_cut_where_it_is_quiet() -> None:
    """Two clips with a pause that is too short to end a segment: it is the quietest place."""
    pause = np.random.default_rng(0).normal(0.0, 1e-4, int(0.2 * RATE)).astype(np.float32)
    first, second = (clip[2400:-2400] for clip in human()[3:5])
    samples = np.concatenate([first, pause, second])
    longest = len(first) / RATE + 0.8
    one, two = heard(samples, [30_000], longest=longest)[:2]
    assert len(first) / RATE - 0.1 <= one.end <= (len(first) + len(pause)) / RATE + 0.1
    assert one.end == two.start
    assert one.end - one.start <= longest


def test_nothing_is_found_in_silence_and_noise() -> None:
    assert not heard(np.zeros(10 * RATE, np.float32), [7000])
    noise = np.random.default_rng(0).normal(0.0, 0.01, 10 * RATE).astype(np.float32)
    assert not heard(noise, [7000])
    assert not heard(np.empty(0, np.float32), [1])


def test_a_recording_that_ends_within_speech_gives_its_end() -> None:
    samples = human()[3][: 2 * RATE]
    (speech,) = heard(samples, [len(samples)])
    assert speech.end == 2.0


def test_ten_minutes_take_no_more_memory_than_two(tmp_path: Path) -> None:
    def peak(repeats: int) -> int:
        path = tmp_path / "long.wav"
        with soundfile.SoundFile(path, "w", samplerate=8000, channels=1) as file:
            part = soxr.resample(recording()[0], RATE, 8000)
            for _ in range(repeats):
                file.write(part)
        tracemalloc.start()
        try:
            for _ in Listener(RATE, OPTIONS.rules(30.0)).listen(read_blocks(path, RATE)):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    seconds = len(recording()[0]) / RATE
    short, long = peak(round(120 / seconds)), peak(round(600 / seconds))
    assert long < 1.1 * short
    assert long < 600 * RATE * 4 / 3  # a third of the samples


def test_kept_samples_are_forgotten_by_blocks() -> None:
    kept = Kept()
    for at in range(0, 100, 10):
        kept.append(np.arange(at, at + 10, dtype=np.float32))
    kept.forget(35)
    np.testing.assert_array_equal(kept.take(38, 62), np.arange(38, 62))
    assert kept.take(100, 100).size == 0
    with pytest.raises(AssertionError, match="kept"):
        kept.take(25, 40)


def test_another_model_than_that_of_the_package_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = bytearray(voice.MODEL.read_bytes())
    changed[-1] ^= 1
    for content in (bytes(changed), None):
        path = tmp_path / f"{content is None}.onnx"
        if content:
            path.write_bytes(content)
        monkeypatch.setattr(voice, "MODEL", path)
        voice._session.cache_clear()
        with pytest.raises(ArtifactError, match="it is not the file of this package; install"):
            voice.VoiceActivity()


def test_the_licence_of_the_model_lies_beside_it() -> None:
    text = (voice.MODEL.parent / "silero_vad.LICENSE.txt").read_text("utf-8")
    assert "MIT License" in text
    assert "Silero Team" in text
    assert voice.MODEL.name in text
