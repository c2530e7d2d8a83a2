"""Requests whose profile is chosen: by the audio that was decoded, whichever way they are made."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from fastadasp.profiles.errors import AudioError, RequestError, RequestMemoryError
from fastadasp.runtime import Auto, SegmentOptions, SpeechLM
from measured_figures import FIGURES, with_figures

RATE = 16000
SHORT, LONG = (np.full(seconds * RATE, 0.1, np.float32) for seconds in (1, 3))
BUDGET = Auto(latency_budget=0.1)  # which `full` keeps up to two seconds
ASKED: dict[str, Any] = {"prompt": "hello", "max_new_tokens": 3}


@pytest.fixture(scope="module")
def artifact(tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_figures(tiny_artifact, tmp_path_factory.mktemp("auto") / "artifact", FIGURES)


@pytest.fixture(scope="module")
def model(artifact: Path) -> Iterator[SpeechLM]:
    with SpeechLM.load(artifact, threads=1) as loaded:
        yield loaded


@pytest.mark.parametrize(("audio", "profile"), [(SHORT, "full"), (LONG, "own-30")], ids=["short", "long"])
def test_the_length_of_the_audio_decides_and_the_answer_is_that_of_the_profile(
    model: SpeechLM, audio: Any, profile: str
) -> None:
    found = model.generate(audio, profile=BUDGET, **ASKED)
    named = model.generate(audio, profile=profile, **ASKED)
    assert (found.profile, found.hypotheses, found.kept_ratio) == (
        *(named.profile, named.hypotheses, named.kept_ratio),
    )
    assert found.profile == profile
    assert found.profile_reason is not None
    assert found.profile_reason.startswith(f"{profile}: ")
    assert "; the times were measured on another, 2 threads, and this runs on CPUExec" in found.profile_reason
    assert named.profile_reason is None
    assert model.figures == FIGURES


def test_every_way_to_ask_chooses_alike(model: SpeechLM) -> None:
    expected = model.generate(LONG, profile=BUDGET, **ASKED)
    stream = model.stream(LONG, profile=BUDGET, **ASKED)
    assert "".join(stream) == expected.text
    found = (
        stream.result,
        model.submit(LONG, profile=BUDGET, **ASKED).result(),
        asyncio.run(model.agenerate(LONG, profile=BUDGET, **ASKED)),
        model.generate(model.encode(LONG), profile=BUDGET, **ASKED),
    )
    assert {each.profile for each in found} == {"own-30"}
    assert {each.profile_reason for each in found} == {expected.profile_reason}
    assert {each.text for each in found} == {expected.text}


@pytest.mark.parametrize("at_once", [1, 2])
def test_each_segment_has_a_profile_of_its_own(model: SpeechLM, demo_manifest: Path, at_once: int) -> None:
    lines = [json.loads(line) for line in demo_manifest.read_text("utf-8").splitlines()]
    speech = [soundfile.read(demo_manifest.parent / line["audio"], dtype="float32")[0] for line in lines[:2]]
    talk = np.concatenate([speech[0][: RATE * 3 // 2], np.zeros(RATE, np.float32), *speech])
    segmenting = SegmentOptions(max_seconds=1.9)
    budget = Auto(latency_budget=0.0725)  # `full` up to 1.45 s, the other one up to 2.5 s
    found = list(model.segments(talk, profile=budget, segmenting=segmenting, at_once=at_once, **ASKED))
    assert {segment.result.profile for segment in found} == {"full", "own-30"}
    for segment in found:
        wanted = "full" if segment.result.audio_seconds <= 1.45 else "own-30"
        assert segment.result.profile == wanted


def test_headers_are_not_believed(model: SpeechLM, tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    soundfile.write(path, SHORT, RATE, subtype="PCM_16")
    whole = path.read_bytes()
    longer = whole[:40] + struct.pack("<I", 3 * 2 * RATE) + whole[44:]
    assert model.generate(whole, profile=BUDGET, **ASKED).profile == "full"
    with pytest.raises(AudioError, match="cut short"):
        model.generate(longer, profile=BUDGET, **ASKED)


def test_what_was_not_measured_is_refused(model: SpeechLM) -> None:
    with pytest.raises(RequestError, match=r"5\.0 s of audio and 1 beam under profile full, only up to 4 s"):
        model.generate(np.full(5 * RATE, 0.1, np.float32), profile=BUDGET, **ASKED)
    with pytest.raises(RequestError, match="no figures of latency for 2 beams"):
        model.generate(SHORT, profile=BUDGET, num_beams=2, **ASKED)
    with pytest.raises(
        RequestError, match=r"profile 'auto' is not in this artifact; .*for auto give a budget"
    ):
        model.generate(SHORT, profile="auto", **ASKED)


def test_without_figures_nothing_is_read(tiny_artifact: Path) -> None:
    with SpeechLM.load(tiny_artifact, threads=1) as plain:
        assert plain.figures is None
        for ask in (plain.generate, plain.segments):
            with pytest.raises(RequestError, match="holds no figures of accuracy"):
                ask("no such file.wav", profile=BUDGET, **ASKED)


def test_the_memory_of_a_request_is_that_of_the_chosen_profile(artifact: Path, model: SpeechLM) -> None:
    allowed = model.request_memory(3.0, "own-30", text_rows=60, max_new_tokens=3).peak
    with SpeechLM.load(artifact, threads=1, max_request_bytes=allowed) as limited:
        assert limited.generate(LONG, profile=BUDGET, **ASKED).profile == "own-30"
    with (
        SpeechLM.load(artifact, threads=1, max_request_bytes=allowed // 100) as limited,
        pytest.raises(RequestMemoryError),
    ):
        limited.generate(LONG, profile=BUDGET, **ASKED)
