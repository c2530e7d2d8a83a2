"""Times of words through OpenAI's client, from an artifact with word heads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import BadRequestError

from fastadasp.profiles.signature import WordHeads
from fastadasp.runtime import SpeechLM
from measured_figures import with_figures
from server_process import NAME, ServerProcess, serving

from .conftest import CLIP, SAID, build_demo
from .test_auto import FIGURES, REDUCED

AUDIO = ("dates-01.flac", CLIP.read_bytes())
TIMED = {"response_format": "verbose_json", "timestamp_granularities": ["word"]}


@pytest.fixture(scope="module")
def worded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo with word heads, and figures to choose a profile by."""
    folder = tmp_path_factory.mktemp("words")
    built = build_demo(folder / "built", word_heads=WordHeads(7, (0, 1)))
    return with_figures(built, folder / "demo", FIGURES)


@pytest.fixture(scope="module")
def server(worded: Path) -> Iterator[ServerProcess]:
    with serving(worded, "--workers", 1) as server:
        yield server
        assert "Traceback" not in server.log


@pytest.fixture
def ask(server: ServerProcess) -> Iterator[Any]:
    """Transcribe the clip."""
    with server.client() as client:

        def ask(**fields: Any) -> Any:
            return client.audio.transcriptions.create(**{"file": AUDIO, "model": NAME, **fields})

        yield ask


@pytest.mark.parametrize(("profile", "beams"), [("full", 3), (REDUCED, 1)])
def test_words_of_long_audio_have_the_times_of_the_library(
    ask: Any, worded: Path, long_clip: bytes, profile: str, beams: int
) -> None:
    fields = {"model": f"{NAME}:{profile}", "extra_body": {"num_beams": beams}}
    found = ask(file=("long.wav", long_clip), **fields, **TIMED)
    with SpeechLM.load(worded, profile, threads=1) as model:
        segments = list(model.segments(long_clip, "<asr>", num_beams=beams))
    wanted = [
        (word.text, round(word.start, 3), word.confident)
        for segment in segments
        for word in segment.words or ()
    ]
    assert [(word.word, word.start, word.confident) for word in found.words] == wanted
    assert found.text.split() == [word.word for word in found.words]
    assert found.words[-1].start > 60
    assert found.segments is None
    words = iter(found.words)
    for segment in segments:
        own = [next(words) for _ in segment.words or ()]
        ends = [*(word.start for word in own[1:]), round(segment.end, 3)]
        assert [word.end for word in own] == [
            max(word.start, end) for word, end in zip(own, ends, strict=True)
        ]


def test_of_a_real_clip_the_time_alone_that_is_wrong_is_told_without_confidence(worded: Path) -> None:
    """As the model writes "six", the heads look back at "seven"."""
    with SpeechLM.load(worded, threads=1) as model:
        for profile in ("full", REDUCED):
            words = model.generate(CLIP.parent / "digits-03.flac", "<asr>", profile=profile).words or ()
            assert [word.text for word in words if not word.confident] == ["six"]
            assert len(words) == 6


def test_an_answer_has_the_times_that_are_asked_for(ask: Any) -> None:
    both = ask(**{**TIMED, "timestamp_granularities": ["segment", "word"]})
    assert " ".join(word.word for word in both.words) == both.segments[0].text == SAID
    assert both.segments[0].start <= both.words[0].start < both.words[-1].end <= both.segments[0].end
    assert ask(response_format="verbose_json").words is None


def test_a_profile_that_was_chosen_tells_them_as_well(ask: Any) -> None:
    found = ask(model=f"{NAME}:auto", extra_body={"accuracy_budget": 0.5}, **TIMED)
    assert [word.word for word in found.words] == SAID.split()


def test_a_stream_has_no_times_of_words(ask: Any) -> None:
    with pytest.raises(BadRequestError, match="times of words come with the whole answer") as caught:
        ask(stream=True, **TIMED)
    assert (caught.value.param, caught.value.code) == ("stream", "unsupported_value")
