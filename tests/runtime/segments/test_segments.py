"""Long audio through a loaded model: segments are answered as if each were given alone, in order, lazily."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from demo_files import CLIPS
from fastadasp.profiles.errors import (
    AudioError,
    DeadlineExceeded,
    LongAudioError,
    RequestCancelled,
    RequestError,
    RequestMemoryError,
)
from fastadasp.runtime import Cancellation, SegmentOptions, SpeechLM
from fastadasp.runtime.audio.read import load_audio
from fastadasp.runtime.prompt import PromptCodec
from fastadasp.runtime.segments import speech as speech_module
from fastadasp.runtime.segments.segments import answered
from fastadasp.runtime.segments.speech import Speech

RATE = 16000
ASKED: dict[str, Any] = {"max_new_tokens": 3, "segmenting": SegmentOptions(max_seconds=6.0)}


@pytest.fixture(scope="module")
def model(tiny_artifact: Path) -> SpeechLM:
    return SpeechLM.load(tiny_artifact, threads=1)


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three human clips with pauses."""
    path = tmp_path_factory.mktemp("talk") / "talk.wav"
    clips = [load_audio(clip, RATE).samples for clip in sorted(CLIPS.parent.glob("*.flac"))[:3]]
    pause = np.zeros(2 * RATE, np.float32)
    soundfile.write(path, np.concatenate([part for clip in clips for part in (pause, clip)]), RATE)
    return path


def samples_of(talk: Path, start: float, end: float) -> npt.NDArray[np.float32]:
    return load_audio(talk, RATE).samples[round(start * RATE) : round(end * RATE)]


def test_every_segment_is_answered_as_if_it_were_given_alone(model: SpeechLM, talk: Path) -> None:
    for profile, beams in (("full", 1), ("own-30", 2)):
        found = model.segments(talk, "hello", profile=profile, num_beams=beams, **ASKED)
        segments = list(found)
        assert len(segments) == 3
        assert found.audio_seconds == load_audio(talk, RATE).seconds
        for segment in segments:
            part = samples_of(talk, segment.start, segment.end)
            alone = model.generate(part, "hello", profile=profile, num_beams=beams, max_new_tokens=3)
            assert segment.result.hypotheses == alone.hypotheses
            assert segment.text == alone.text
            assert segment.result.audio_seconds == pytest.approx(segment.end - segment.start)


def test_a_segment_is_at_most_a_window_unless_it_is_said(model: SpeechLM, talk: Path) -> None:
    window = list(model.segments(talk, "hello", max_new_tokens=1))
    assert len(window) > 3
    assert max(segment.end - segment.start for segment in window) <= 2.0
    times = [time for segment in window for time in (segment.start, segment.end)]
    assert times == sorted(times)


def test_audio_is_read_as_far_as_the_segments_asked_for(model: SpeechLM, talk: Path) -> None:
    found = model.segments(talk, "hello", **ASKED)
    assert found.audio_seconds == 0.0
    first = next(found)
    assert first.end < found.audio_seconds < load_audio(talk, RATE).seconds + 1e-9
    found.close()
    with pytest.raises(StopIteration):
        next(found)


def test_audio_that_is_longer_than_may_be_is_refused_when_that_is_known(model: SpeechLM, talk: Path) -> None:
    seconds = load_audio(talk, RATE).seconds
    assert len(list(model.segments(talk, "hello", max_audio_seconds=seconds, **ASKED))) == 3
    with pytest.raises(LongAudioError, match="at most 2 s are read"):
        next(model.segments(talk, "hello", max_audio_seconds=2.0, **ASKED))


def test_audio_without_speech_has_no_segment(model: SpeechLM) -> None:
    found = model.segments(np.zeros(4 * RATE, np.float32), "hello")
    assert list(found) == []
    assert found.audio_seconds == 4.0


def test_audio_of_another_rate_and_kind_is_taken(model: SpeechLM, talk: Path) -> None:
    samples = load_audio(talk, 8000).samples
    for given in ((samples, 8000), np.stack([samples, samples], axis=1)):
        found = model.segments(given, "hello", source_rate=8000, **ASKED)
        assert len(list(found)) == 3


def test_faults_of_the_request_are_raised_at_once(model: SpeechLM, talk: Path) -> None:
    faults: list[tuple[dict[str, Any], str]] = [
        ({"segmenting": SegmentOptions(max_seconds=600.0)}, r"segments of 600 s: .* the model holds .* give"),
        ({"segmenting": 3}, "segmenting is 3: give a record of SegmentOptions"),
        ({"profile": "none"}, "profile 'none' is not in this artifact"),
        ({"num_beams": 0}, "num_beams"),
        ({"max_new_tokens": 1010}, "segments of 1 s|leave no room"),
        ({"deadline": 0}, "deadline is 0"),
        ({"max_seconds": 3}, "option max_seconds is unknown"),
        ({"at_once": 0}, "at_once is 0: give a whole number of at least 1"),
    ]
    for arguments, fault in faults:
        with pytest.raises(RequestError, match=fault):
            model.segments(talk, "hello", **arguments)


def test_faults_of_the_audio_are_raised_where_it_is_read(model: SpeechLM, talk: Path, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="does not exist"):
        next(model.segments(tmp_path / "none.wav", "hello"))
    with pytest.raises(AudioError, match="audio of type EncodedAudio"):
        next(model.segments(model.encode(np.zeros(RATE, np.float32)), "hello"))  # type: ignore[arg-type]
    cut = tmp_path / "cut.wav"
    cut.write_bytes(talk.read_bytes()[:-1000])
    with pytest.raises(AudioError, match="is cut short"):
        list(model.segments(cut, "hello", **ASKED))


def test_what_may_take_too_much_memory_is_refused_before_anything_is_read(tiny_artifact: Path) -> None:
    model = SpeechLM.load(tiny_artifact, threads=1, max_request_bytes=1000)
    with pytest.raises(AudioError, match=r"the longest segment \(max_seconds.*max_request_bytes allows 1000"):
        model.segments("none.wav", "hello")
    with pytest.raises(AudioError, match=": give it fewer seconds, ask for fewer beams"):
        model.segments("none.wav", "hello")


def test_a_segment_is_as_long_as_the_memory_allows_unless_it_is_said(
    model: SpeechLM, tiny_artifact: Path, talk: Path
) -> None:
    rows = model.generate(samples_of(talk, 0, 1), "hello", max_new_tokens=1).text_rows
    limit = model.request_memory(1.5, text_rows=rows, max_new_tokens=1).peak
    asked: dict[str, Any] = {"prompt": "hello", "max_new_tokens": 1}
    with SpeechLM.load(tiny_artifact, threads=1, max_request_bytes=limit) as limited:
        with pytest.raises(RequestMemoryError):
            limited.segments(talk, segmenting=SegmentOptions(max_seconds=2.0), **asked)
        longest = max(segment.end - segment.start for segment in limited.segments(talk, **asked))
    assert 1 < longest < 2
    assert model.request_memory(longest, text_rows=rows, max_new_tokens=1).peak <= limit


def test_it_is_cancelled_between_segments_and_within(model: SpeechLM, talk: Path) -> None:
    cancellation = Cancellation()
    found = model.segments(talk, "hello", cancellation=cancellation, **ASKED)
    next(found)
    cancellation.cancel()
    with pytest.raises(RequestCancelled):
        next(found)
    with pytest.raises(DeadlineExceeded, match="deadline of 1e-09 s"):
        next(model.segments(talk, "hello", deadline=1e-9, **ASKED))
    assert len(list(model.segments(talk, "hello", deadline=1000.0, **ASKED))) == 3


def test_it_ends_while_it_reads_silence_that_does_not_end(
    model: SpeechLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No segment comes, so only reading itself can see the cancellation."""
    cancellation, blocks = Cancellation(), 0
    take = speech_module.VoiceActivity.take

    def counted(self: Any, samples: Any) -> Any:
        nonlocal blocks
        blocks += 1
        if blocks == 3:
            cancellation.cancel()
        return take(self, samples)

    monkeypatch.setattr(speech_module.VoiceActivity, "take", counted)
    with pytest.raises(RequestCancelled, match="in stage audio"):
        list(model.segments(np.zeros(600 * RATE, np.float32), "hello", cancellation=cancellation))
    assert blocks == 3


def test_closing_from_another_thread_ends_the_wait(
    model: SpeechLM, talk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = model.segments(talk, "hello", **ASKED)
    next(found)
    encode = model.audio_encoder.encode

    def closing(*arguments: Any) -> Any:
        closer = threading.Thread(target=found.close)
        closer.start()
        closer.join()
        return encode(*arguments)

    monkeypatch.setattr(model.audio_encoder, "encode", closing)
    with pytest.raises(RequestCancelled):
        next(found)


@pytest.mark.parametrize("at_once", [2, 8])
def test_several_segments_at_once_give_the_same(model: SpeechLM, talk: Path, at_once: int) -> None:
    one_by_one = list(model.segments(talk, "hello", **ASKED))
    together = list(model.segments(talk, "hello", at_once=at_once, **ASKED))
    for expected, found in zip(one_by_one, together, strict=True):
        assert (found.start, found.end, found.text) == (expected.start, expected.end, expected.text)
        for mine, theirs in zip(found.result.hypotheses, expected.result.hypotheses, strict=True):
            assert mine.tokens == theirs.tokens
            assert mine.score == pytest.approx(theirs.score, abs=1e-5)  # steps are shared


@pytest.mark.parametrize("at_once", [1, 2, 8])
def test_the_text_of_a_segment_is_told_piece_by_piece_before_it_is_given(
    model: SpeechLM, talk: Path, at_once: int
) -> None:
    told, asked = list[str](), {**ASKED, "max_new_tokens": 12}
    for segment in model.segments(talk, "hello", at_once=at_once, tell=told.append, **asked):
        alone = model.stream(samples_of(talk, segment.start, segment.end), "hello", max_new_tokens=12)
        assert told == list(alone)
        assert "".join(told) == segment.text
        told.clear()
    assert not told


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_piece_is_told_before_the_next_one_is_found(
    model: SpeechLM, talk: Path, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = threading.Event()

    def stream(_: PromptCodec, tokens: Iterator[int]) -> Iterator[str]:
        yield "first"
        assert heard.wait(60)
        yield str(len(list(tokens)))

    monkeypatch.setattr(PromptCodec, "stream", stream)
    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)
        heard.set()

    assert len(list(model.segments(talk, "hello", at_once=at_once, tell=tell, **ASKED))) == 3
    assert told == ["first", "3"] * 3


def test_pieces_are_of_greedy_search_and_told_to_a_function(model: SpeechLM, talk: Path) -> None:
    with pytest.raises(RequestError, match="num_beams is 2"):
        model.segments(talk, "hello", num_beams=2, tell=print, **ASKED)
    with pytest.raises(RequestError, match="tell is 3"):
        model.segments(talk, "hello", tell=3, **ASKED)  # type: ignore[arg-type]


def test_a_deadline_ends_the_wait_for_pieces_though_no_thread_has_begun(
    tiny_artifact: Path, talk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = threading.Event()
    with SpeechLM.load(tiny_artifact, threads=1, max_batch=1) as model:
        encode = model.audio_encoder.encode

        def held(*given: Any) -> Any:
            free.wait(60)
            return encode(*given)

        monkeypatch.setattr(model.audio_encoder, "encode", held)
        other = model.submit(np.full(RATE, 0.1, np.float32), "hello", max_new_tokens=1)
        with pytest.raises(DeadlineExceeded):
            list(model.segments(talk, "hello", at_once=2, tell=print, deadline=2.0, **ASKED))
        free.set()
        other.result()


def test_those_under_way_end_with_the_segments(
    model: SpeechLM, talk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one fails while the second waits within its encoder."""
    encode, begun, ended = model.audio_encoder.encode, [], threading.Event()

    def failing(samples: Any, watch: Any) -> Any:
        begun.append(len(samples))
        if len(begun) == 1:
            while len(begun) < 2:
                time.sleep(0.001)
            raise RequestError("the first one fails")
        try:
            while True:
                with watch.stage("encoder"):
                    time.sleep(0.001)
        finally:
            ended.set()

    monkeypatch.setattr(model.audio_encoder, "encode", failing)
    with pytest.raises(RequestError, match="the first one fails"):
        list(model.segments(talk, "hello", at_once=2, **ASKED))
    assert ended.wait(60)
    monkeypatch.setattr(model.audio_encoder, "encode", encode)
    assert len(list(model.segments(talk, "hello", at_once=2, deadline=1000.0, **ASKED))) == 3
    with pytest.raises(DeadlineExceeded, match="deadline of 1e-09 s"):
        next(model.segments(talk, "hello", deadline=1e-9, at_once=2, **ASKED))


@pytest.mark.parametrize(("at_once", "most"), [(1, 1), (3, 3), (9, 5)])
def test_answers_come_in_order_however_many_are_under_way(at_once: int, most: int) -> None:
    begun: list[float] = []
    open_now, widest = 0, 0

    def speech() -> Iterator[Speech]:
        for number in range(5):
            yield Speech(number, number + 0.5, np.zeros(1, np.float32))

    def ask(part: Speech) -> Any:
        nonlocal open_now, widest
        begun.append(part.start)
        open_now += 1
        widest = max(widest, open_now)

        class Result:
            text = f"text {part.start:g}"

        def answer() -> Any:
            nonlocal open_now
            open_now -= 1
            return Result()

        return answer

    found = list(answered(speech(), ask, Cancellation(), at_once))
    assert [segment.text for segment in found] == [f"text {number}" for number in range(5)]
    assert begun == [0, 1, 2, 3, 4]
    assert widest == most


def test_a_segment_that_gives_no_row_is_filled_up_with_silence(
    model: SpeechLM, talk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listen(self: Any, blocks: Any) -> Iterator[Speech]:
        yield Speech(1.0, 1.001, np.full(16, 0.1, np.float32))

    monkeypatch.setattr(speech_module.Listener, "listen", listen)
    (segment,) = model.segments(talk, "hello", **ASKED)
    assert (segment.start, segment.end) == (1.0, 1.001)
    assert segment.result.audio_rows == 1


@pytest.mark.parametrize("at_once", [1, 4, 9])
def test_answers_under_way_are_given_before_the_fault_of_what_is_behind_them(at_once: int) -> None:
    def speech() -> Iterator[Speech]:
        for number in range(7):
            yield Speech(number, number + 0.5, np.zeros(1, np.float32))
        raise AudioError("the rest is damaged")

    class Result:
        text = "text"

    found = answered(speech(), lambda part: lambda: Result(), Cancellation(), at_once)  # type: ignore[arg-type, return-value]
    assert [next(found).start for _ in range(7)] == list(range(7))
    with pytest.raises(AudioError, match="the rest is damaged"):
        next(found)


@pytest.mark.parametrize("longest", ["5", math.nan, -1, True])
def test_a_longest_audio_that_is_no_length_is_refused_at_once(model: SpeechLM, longest: Any) -> None:
    with pytest.raises(RequestError, match=r"max_audio_seconds is .*: give seconds, at least 0"):
        model.segments("nowhere.wav", "hello", max_audio_seconds=longest, **ASKED)
