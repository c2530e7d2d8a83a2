"""What is too short or too long is refused with figures that hold, and before it is decoded."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fastadasp.profiles.errors import AudioError, RequestError
from fastadasp.runtime import SpeechLM

RATE = 16000


@pytest.fixture(scope="module")
def model(tiny_artifact: Path) -> SpeechLM:
    return SpeechLM.load(tiny_artifact, threads=1)


def test_the_shortest_audio_is_exact(model: SpeechLM) -> None:
    shortest = model.manifest.front_end.shortest_samples
    assert model.manifest.front_end.audio_tokens(shortest - 1) == 0
    assert model.manifest.front_end.audio_tokens(shortest) == 1
    assert len(model.encode(np.ones(shortest, np.float32)).rows) == 1
    with pytest.raises(AudioError, match="20\\.0 ms give no audio token; at least 20\\.1 ms are needed"):
        model.encode(np.ones(shortest - 1, np.float32))


def test_audio_of_the_stated_shortest_length_is_taken(model: SpeechLM) -> None:
    with pytest.raises(AudioError) as caught:
        model.encode(np.ones(1, np.float32))
    (stated,) = re.findall(r"at least ([\d.]+) ms", str(caught.value))
    assert len(model.encode(np.ones(int(float(stated) * RATE / 1000), np.float32)).rows) == 1


def test_audio_of_the_stated_longest_length_is_taken(model: SpeechLM) -> None:
    with pytest.raises(AudioError) as caught:
        model.generate(np.zeros(60 * RATE, np.float32), "hello", max_new_tokens=4)
    (stated,) = re.findall(r"hold at most ([\d.]+) s", str(caught.value))
    model.generate(np.ones(int(float(stated) * RATE) - RATE // 10, np.float32), "hello", max_new_tokens=4)


def test_a_file_that_is_too_long_is_refused_before_it_is_decoded(
    model: SpeechLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "long.flac"
    with soundfile.SoundFile(path, "w", 8000, 1) as file:
        for _ in range(60):
            file.write(np.zeros(60 * 8000, np.int16))
    monkeypatch.setattr(soundfile, "SoundFile", None)
    with pytest.raises(AudioError, match=r"long\.flac: 3600\.0 s take 90000 rows; with \d+ of prompt"):
        model.generate(path, "hello")
    with pytest.raises(
        AudioError, match=r"long\.flac: 3600\.0 s take 90000 rows; this model's 1024 positions"
    ):
        model.encode(path)


def test_samples_with_their_rate_are_heard_at_it(model: SpeechLM, clip: Path) -> None:
    samples, rate = soundfile.read(clip, dtype="float32")
    expected = model.generate(clip, "hello", max_new_tokens=5)
    for audio in ((samples, rate), (samples.tolist(), rate)):
        assert model.generate(audio, "hello", max_new_tokens=5).text == expected.text
    assert model.encode((samples, 8000)).audio.seconds == 6.0


def test_an_unknown_option_is_refused_with_those_that_there_are(model: SpeechLM, clip: Path) -> None:
    with pytest.raises(
        RequestError, match=r"option rate is unknown; known: num_beams, .*profile, source_rate"
    ):
        model.generate(clip, "hello", rate=8000)


def test_each_method_names_its_own_keywords(model: SpeechLM) -> None:
    calls = {
        "generate": lambda: model.generate("nowhere.wav", rate=1),
        "agenerate": lambda: asyncio.run(model.agenerate("nowhere.wav", rate=1)),
        "stream": lambda: model.stream("nowhere.wav", scored_text="yes"),
        "segments": lambda: model.segments("nowhere.wav", scored_text="yes"),
        "request_memory": lambda: model.request_memory(3.0, system="yes"),
        "search_options": lambda: model.search_options(profile="full"),
    }
    known = {}
    for method, call in calls.items():
        with pytest.raises(RequestError, match="is unknown; known: num_beams, ") as raised:
            call()
        known[method] = set(str(raised.value).partition("known: ")[2].split(", "))
    with_scored_text = {method for method, names in known.items() if "scored_text" in names}
    assert with_scored_text == {"generate", "agenerate"}
    assert {"share_steps", "system"} <= known["stream"]
    assert {"segmenting", "at_once"} <= known["segments"]
    assert "text_rows" in known["request_memory"]
    assert "profile" not in known["request_memory"] | known["search_options"]
