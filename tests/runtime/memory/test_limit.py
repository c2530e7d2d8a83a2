"""A limit on the memory of a request: held before any work, with figures that hold."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from fastadasp.evaluation.answers.answers import Asked, answer_clip
from fastadasp.evaluation.clips.clip import Clip
from fastadasp.export.cli import main
from fastadasp.profiles.errors import AudioError, FastAdaSPError, RequestError, RequestMemoryError
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.decoding.options import SearchOptions
from fastadasp.runtime.onnxruntime.session import OnnxRuntimeSession

PROMPT, BEAMS, TOKENS, SECONDS = "what", 5, 8, 3.0
SEARCH = {"num_beams": BEAMS, "max_new_tokens": TOKENS}


def noise(seconds: float) -> Any:
    samples = np.random.default_rng(0).standard_normal(round(seconds * 16000), np.float32)
    return 0.1 * samples


@pytest.fixture(scope="module")
def needed(tiny_artifact: Path) -> int:
    """Bytes of the request of these tests."""
    with SpeechLM.load(tiny_artifact, threads=1, max_batch=1) as model:
        rows = model.generate(noise(SECONDS), PROMPT, **SEARCH).text_rows
        return model.request_memory(SECONDS, text_rows=rows, **SEARCH).peak


@pytest.fixture
def no_session_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object) -> None:
        raise AssertionError("a session ran")

    monkeypatch.setattr(OnnxRuntimeSession, "run", run)


def load(artifact: Path, limit: int) -> SpeechLM:
    return SpeechLM.load(artifact, threads=1, max_batch=1, max_request_bytes=limit)


@pytest.mark.usefixtures("no_session_runs")
def test_a_request_above_the_limit_is_refused_before_any_session_runs(
    tiny_artifact: Path, needed: int
) -> None:
    model = load(tiny_artifact, needed - 1)
    with pytest.raises(RequestMemoryError) as caught:
        model.generate(noise(SECONDS), PROMPT, **SEARCH)
    message = str(caught.value)
    assert f"{needed} bytes" in message
    assert f"allows {needed - 1} " in message
    assert "audio array: 3.00 s under profile full with 5 beams, 8 new tokens" in message
    assert (
        "cut the audio, ask for fewer beams or tokens, take a profile that reduces more, or raise" in message
    )
    for kind in (FastAdaSPError, ValueError, MemoryError, RequestError, AudioError):
        assert isinstance(caught.value, kind)


def test_a_request_at_the_limit_is_answered_and_one_of_more_beams_is_not(
    tiny_artifact: Path, needed: int
) -> None:
    with load(tiny_artifact, needed) as model:
        assert model.generate(noise(SECONDS), PROMPT, **SEARCH).hypotheses
        with pytest.raises(RequestMemoryError, match="6 beams"):
            model.generate(noise(SECONDS), PROMPT, num_beams=6, max_new_tokens=TOKENS)


def test_requests_that_share_steps_are_held_to_what_the_largest_of_their_class_takes(
    tiny_artifact: Path,
) -> None:
    with SpeechLM.load(tiny_artifact, threads=1) as model:
        rows = model.generate(noise(SECONDS), PROMPT, **SEARCH).text_rows
        needed = model.request_memory(SECONDS, text_rows=rows, **SEARCH).peak
        of_class = model.request_memory(SECONDS, text_rows=rows, num_beams=8, max_new_tokens=TOKENS).peak
    assert needed == of_class
    with SpeechLM.load(tiny_artifact, threads=1, max_request_bytes=needed) as model:
        for request in [model.submit(noise(SECONDS), PROMPT, **SEARCH) for _ in range(3)]:
            assert request.result().hypotheses
        with pytest.raises(RequestMemoryError, match="9 beams"):
            model.submit(noise(SECONDS), PROMPT, num_beams=9, max_new_tokens=TOKENS).result()


@pytest.mark.usefixtures("no_session_runs")
def test_a_stream_is_refused_by_the_call_itself(tiny_artifact: Path) -> None:
    with pytest.raises(RequestMemoryError, match="with 1 beam, 8 new tokens"):
        load(tiny_artifact, 1).stream(noise(SECONDS), PROMPT, max_new_tokens=TOKENS)


@pytest.mark.usefixtures("no_session_runs")
def test_a_text_that_is_scored_is_named_beside_what_is_asked_for(tiny_artifact: Path) -> None:
    with pytest.raises(RequestMemoryError) as caught:
        load(tiny_artifact, 1).generate(noise(SECONDS), PROMPT, scored_text="what", max_new_tokens=TOKENS)
    message = str(caught.value)
    assert re.search(r"with 1 beam, 8 new tokens, scored_text of \d tokens may take", message)
    assert "ask for fewer beams or tokens, score a shorter text or none, take a profile" in message


@pytest.mark.usefixtures("no_session_runs")
def test_audio_is_refused_when_it_is_encoded_for_later_requests(tiny_artifact: Path) -> None:
    with pytest.raises(RequestMemoryError, match=r"audio array: 3.00 s may take \d+ bytes"):
        load(tiny_artifact, 1 << 20).encode(noise(SECONDS))


def test_audio_that_was_encoded_before_takes_no_encoder(tiny_artifact: Path, needed: int) -> None:
    with load(tiny_artifact, needed) as model:
        audio = model.encode(noise(SECONDS))
        more = {"num_beams": BEAMS + 1, "max_new_tokens": TOKENS}
        assert model.generate(audio, PROMPT, **more).hypotheses


@pytest.mark.usefixtures("no_session_runs")
def test_a_long_file_is_refused_before_it_is_decoded(
    tiny_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / "long.wav", noise(20), 16000)

    def mono_at(*_: object) -> None:
        raise AssertionError("it was decoded")

    with load(tiny_artifact, 6 << 20) as model:
        from fastadasp.runtime.audio import read

        def blocks(recording: Any) -> Any:
            recording.check_length(20 * 16000, 16000)
            mono_at()

        monkeypatch.setattr(read.table, "blocks", blocks)
        with pytest.raises(RequestMemoryError, match=r"20\.00 s under profile full"):
            model.generate(tmp_path / "long.wav", PROMPT)


def test_of_several_clips_the_others_are_answered(tiny_artifact: Path, needed: int, tmp_path: Path) -> None:
    for name, seconds in (("short", 1), ("long", 20)):
        soundfile.write(tmp_path / f"{name}.wav", noise(seconds), 16000)
    clips = [str(tmp_path / f"{name}.wav") for name in ("long", "short")]
    options = ["--prompt", PROMPT, "--max-new-tokens", "4", "--max-request-memory", f"{needed}B"]
    result = CliRunner().invoke(main, ["run", str(tiny_artifact), *clips, *options])
    assert result.exit_code == 1, result.output
    assert re.search(r"Error: audio \S+long.wav: 20.00 s under profile full .* may take", result.output)
    assert re.search(r"short.wav\t", result.output)


def test_a_clip_of_an_evaluation_fails_with_the_reason(tiny_artifact: Path, needed: int, clip: Path) -> None:
    one = Clip("one", None, clip.name, clip, "asr", ("that",), "what")
    asked = Asked(("full",), SearchOptions(num_beams=128, max_new_tokens=TOKENS))
    with load(tiny_artifact, needed) as model:
        found = answer_clip(model, one, asked)
    assert "128 beams" in found.failures["full"]
    assert not found.answers


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "2GB"])
def test_a_limit_that_is_none_is_refused(tiny_artifact: Path, limit: Any) -> None:
    with pytest.raises(RequestError, match=r"max_request_bytes is .*: give a whole number above 0"):
        SpeechLM.load(tiny_artifact, max_request_bytes=limit)


@pytest.mark.parametrize(
    ("text", "size"), [("500B", 500), ("2GB", 2 * 10**9), ("1.5GiB", 3 * 2**29), ("64 MB", 64 * 10**6)]
)
def test_sizes_have_units(text: str, size: int) -> None:
    from fastadasp.export.commands.parameters import Bytes

    assert Bytes().convert(text, None, None) == size


@pytest.mark.parametrize("text", ["2", "GB", "0MB", "-1GB", "2gb", "1e3MB", "nanGB", "2PB", ""])
def test_other_sizes_are_refused(tiny_artifact: Path, clip: Path, text: str) -> None:
    arguments = ["run", str(tiny_artifact), str(clip), "--max-request-memory", text]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "no size with its unit: give one such as 500B, 500MB" in result.output


def test_what_is_no_length_has_no_memory(tiny_artifact: Path) -> None:
    model = load(tiny_artifact, 10**9)
    wrong: tuple[Any, ...] = math.nan, math.inf, -3, "5", True
    for seconds in wrong:
        with pytest.raises(RequestError, match=r"seconds is .*: give seconds, at least 0"):
            model.request_memory(seconds)
    with pytest.raises(RequestError, match="text_rows is -50: give a whole number of at least 0"):
        model.request_memory(3.0, text_rows=-50)
