"""The model NAME:auto through OpenAI's client: which profile answers, why, and what is refused."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import BadRequestError

from fastadasp.profiles.errors import RequestError
from fastadasp.runtime import Auto, SpeechLM
from fastadasp.runtime.artifact.artifact import open_artifact
from fastadasp.runtime.choice.figures import (
    Accuracy,
    Figures,
    Latency,
    Loss,
    Machine,
    MeasuredClips,
    Timed,
)
from fastadasp.serving.options import ServeOptions
from fastadasp.serving.server import models_of
from measured_figures import with_figures
from server_process import NAME, ServerProcess, serving

from .conftest import CLIP, SAID

AUDIO = ("dates-01.flac", CLIP.read_bytes())
REDUCED = "dense-constant-50"
PROFILE, REASON = "x-fastadasp-profile", "x-fastadasp-reason"
LENGTHS = (2.0, 4.0, 30.0)


def times(*milliseconds: float) -> tuple[Timed, ...]:
    return tuple(Timed(1, length, each) for length, each in zip(LENGTHS, milliseconds, strict=True))


FIGURES = Figures(
    Accuracy(
        *("asr", "WER", "full", MeasuredClips("Aufzählung.jsonl", "0" * 64, 40, 40, 30.0), 30),
        {REDUCED: Loss(0.1, -0.1, 0.3, 1.0), "sparse-30": Loss(0.5, 0.1, 2.0, 1.0)},
    ),
    Latency(
        Machine("another", None, 1),
        16,
        {"full": times(50, 100, 900), REDUCED: times(55, 60, 400), "sparse-30": times(1, 1, 1)},
    ),
)


@pytest.fixture(scope="module")
def measured(demo_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo with figures; `sparse-30` is not accepted."""
    return with_figures(demo_artifact, tmp_path_factory.mktemp("auto") / "demo", FIGURES)


@pytest.fixture(scope="module")
def server(measured: Path) -> Iterator[ServerProcess]:
    """One worker, and a budget for those who give none."""
    with serving(measured, "--workers", 1, "--accuracy-budget", 0) as server:
        yield server
        assert "Traceback" not in server.log


@pytest.fixture
def ask(server: ServerProcess) -> Iterator[Any]:
    """Transcribe the clip with the model auto; headers and answer."""
    with server.client() as client:

        def ask(*, model: str = f"{NAME}:auto", **fields: Any) -> Any:
            given = {"file": AUDIO, "model": model, **fields}
            return client.audio.transcriptions.with_raw_response.create(**given)

        yield ask


def question(content: bytes) -> list[Any]:
    data = {"data": base64.b64encode(content).decode(), "format": "flac"}
    return [{"role": "user", "content": [{"type": "input_audio", "input_audio": data}]}]


@pytest.mark.parametrize(
    ("budget", "profile"),
    [
        ({}, "full"),
        ({"accuracy_budget": 0.3}, REDUCED),
        ({"latency_budget": 9}, "full"),
        ({"latency_budget": 0.06}, REDUCED),
    ],
)
def test_a_budget_chooses_the_profile_and_the_answer_says_why(
    ask: Any, measured: Path, budget: dict[str, float], profile: str
) -> None:
    found = ask(extra_body=budget)
    assert found.parse().text == SAID
    assert found.headers[PROFILE] == profile
    with SpeechLM.load(measured, threads=1) as model:
        auto = Auto(**budget) if budget else Auto(accuracy_budget=0)
        seconds = model.encode(CLIP).audio.seconds
        reason = model.choose_profile(auto, seconds).reason
    assert found.headers[REASON] == reason.encode("ascii", "backslashreplace").decode()
    assert reason.startswith(f"{profile}: ")
    assert "; the times were measured on another, 1 thread, and this runs on " in reason


def test_a_named_profile_has_no_reason(ask: Any) -> None:
    found = ask(model=f"{NAME}:{REDUCED}")
    assert found.headers[PROFILE] == REDUCED
    assert REASON not in found.headers


def test_streams_and_segments_say_it_in_their_headers(server: ServerProcess) -> None:
    with server.client() as client:
        asked: dict[str, Any] = {
            "file": AUDIO,
            "model": f"{NAME}:auto",
            "extra_body": {"latency_budget": 0.5},
        }
        with client.audio.transcriptions.with_streaming_response.create(stream=True, **asked) as stream:
            assert stream.headers[PROFILE] == "full"
            assert REASON in stream.headers
        found = client.audio.transcriptions.with_raw_response.create(response_format="srt", **asked)
    # of segments the longest one counts, of 30 s
    assert found.headers[PROFILE] == REDUCED
    assert "of 30.0 s of audio" in found.headers[REASON]


def test_a_chat_says_it_in_its_body_too(server: ServerProcess) -> None:
    with server.client() as client:
        asked: dict[str, Any] = {"model": f"{NAME}:auto", "messages": question(CLIP.read_bytes())}
        found = client.chat.completions.create(**asked, extra_body={"accuracy_budget": 0.5})
        assert found.choices[0].message.content == SAID
        extra = found.model_extra or {}
        assert extra["fastadasp"]["profile"] == REDUCED
        assert "the fastest of those that lose at most 0.5" in extra["fastadasp"]["reason"]
        first, *others = client.chat.completions.create(**asked, stream=True)
        assert (first.model_extra or {})["fastadasp"]["profile"] == "full"
        assert not any((other.model_extra or {}).get("fastadasp") for other in others)
        named = client.chat.completions.create(**{**asked, "model": NAME})
        assert "fastadasp" not in (named.model_extra or {})


@pytest.mark.parametrize(
    ("model", "budget", "param", "fault"),
    [
        (f"{NAME}:auto", {"latency_budget": 1e-3}, "model", "none of the accepted ones is predicted to take"),
        (f"{NAME}:auto", {"latency_budget": 0}, "latency_budget", "give seconds above 0"),
        (f"{NAME}:auto", {"latency_budget": "soon"}, "latency_budget", "is no number"),
        (f"{NAME}:auto", {"latency_budget": 1, "accuracy_budget": 1}, "latency_budget", "both are given"),
        (f"{NAME}:auto", {"num_beams": 5}, "model", "no figures of latency for 5 beams under profile full"),
        (
            f"{NAME}:full",
            {"latency_budget": 1},
            "latency_budget",
            f"it chooses a profile, of the model {NAME}:a",
        ),
        (NAME, {"accuracy_budget": 1}, "accuracy_budget", "it chooses a profile"),
    ],
)
def test_what_cannot_be_chosen_is_a_fault_of_the_request(
    ask: Any, model: str, budget: dict[str, Any], param: str, fault: str
) -> None:
    with pytest.raises(BadRequestError) as caught:
        ask(model=model, extra_body=budget)
    error: Any = caught.value.body
    assert error["param"] == param
    assert fault in error["message"]


def test_the_list_of_models_has_it_where_there_are_figures(server: ServerProcess) -> None:
    with server.client() as client:
        names = [model.id for model in client.models.list()]
        assert names == [f"{NAME}:{profile}" for profile in ("full", REDUCED, "sparse-30", "auto")]
        assert client.models.retrieve(f"{NAME}:auto").id == f"{NAME}:auto"


def test_without_figures_there_is_no_choice(demo_artifact: Path, measured: Path) -> None:
    plain, held = open_artifact(demo_artifact), open_artifact(measured)
    budget = Auto(latency_budget=1)
    for options in (ServeOptions(auto=budget), ServeOptions(profile="auto", auto=budget)):
        with pytest.raises(RequestError, match="holds no figures of accuracy"):
            models_of(plain, options)
    models = models_of(plain, ServeOptions(name=NAME))
    assert f"{NAME}:auto" not in models.ids
    assert models.asked_profile(f"{NAME}:auto") == "auto"
    with pytest.raises(RequestError, match="holds no figures of accuracy"):
        models.check_figures()
    chosen = models_of(held, ServeOptions(name=NAME, profile="auto", auto=budget))
    assert chosen.asked_profile(NAME) == "auto"
    assert chosen.ids[0] == f"{NAME}:auto"
