"""Chat about audio, as OpenAI's own client asks for it."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
import soundfile
from openai import BadRequestError

from fastadasp.runtime import SpeechLM
from fastadasp.serving.http.chat import MOST_VALUES
from server_process import NAME, ServerProcess

from .conftest import CLIP, SAID

DATA = base64.b64encode(CLIP.read_bytes()).decode()
AUDIO = {"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}}
JSON = {"content-type": "application/json"}


def said(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


@pytest.fixture
def ask(server: ServerProcess) -> Any:
    with server.client() as client:

        def ask(*messages: Any, **fields: Any) -> Any:
            asked = list(messages) or [user(said("<asr>"), AUDIO)]
            return client.chat.completions.create(**{"model": NAME, "messages": asked, **fields})

        yield ask


def test_a_question_about_audio_is_answered(ask: Any, model: SpeechLM) -> None:
    found = ask(user(said("<qa> day"), AUDIO))
    wanted = model.generate(CLIP, "<qa> day")
    (choice,) = found.choices
    assert (choice.message.content, choice.message.role) == (wanted.text, "assistant")
    assert choice.finish_reason == wanted.finish_reason
    assert found.usage.prompt_tokens == wanted.text_rows + wanted.audio_rows
    assert found.usage.completion_tokens == wanted.latency.output_tokens
    assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens
    assert found.model == NAME


def test_without_a_text_the_prompt_is_that_of_the_server(ask: Any) -> None:
    assert ask(user(AUDIO)).choices[0].message.content == SAID


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_an_answer_that_was_cut_says_so(ask: Any, limit: str) -> None:
    (choice,) = ask(**{limit: 2}).choices
    assert (choice.message.content, choice.finish_reason) == ("friday march", "length")


def test_beams_and_profile_are_those_of_the_request(ask: Any, model: SpeechLM) -> None:
    found = ask(user(said("<fr>"), AUDIO), model=f"{NAME}:sparse-30", extra_body={"num_beams": 3})
    wanted = model.generate(CLIP, "<fr>", profile="sparse-30", num_beams=3).text
    assert found.choices[0].message.content == wanted


def test_a_stream_has_the_role_the_pieces_the_end_and_the_usage(ask: Any, model: SpeechLM) -> None:
    first, *pieces, last, usage = ask(stream=True, stream_options={"include_usage": True})
    assert first.choices[0].delta.role == "assistant"
    assert [part.choices[0].delta.content for part in pieces] == [
        text for text in model.stream(CLIP, "<asr>") if text
    ]
    assert last.choices[0].finish_reason == "stop"
    assert usage.choices == []
    assert usage.usage.total_tokens == ask().usage.total_tokens
    assert len({part.id for part in (first, *pieces, last, usage)}) == 1


def test_a_stream_has_no_usage_that_was_not_asked_for(ask: Any) -> None:
    assert all(part.usage is None and part.choices for part in ask(stream=True))


def test_fields_that_ask_for_nothing_are_taken(ask: Any) -> None:
    fields = {"n": 1, "temperature": 0, "top_p": 1.0, "tools": [], "seed": 7, "user": "someone"}
    assert ask(**fields, response_format={"type": "text"}).choices[0].message.content == SAID


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 1}, "temperature"),
        ({"n": 2}, "n"),
        ({"n": True}, "n"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"stop": ["x"]}, "stop"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"extra_body": {"audio": {"voice": "x"}}}, "audio"),
        ({"extra_body": {"top_k": 3}}, "top_k"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 2, "max_completion_tokens": 3}, "max_completion_tokens"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"extra_body": {"num_beams": "3 "}, "stream": "yes"}, "stream"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [user(said("<asr>"))]}, "messages"),
        ({"messages": [user(AUDIO, AUDIO)]}, "messages"),
        ({"messages": [user(AUDIO), user(AUDIO)]}, "messages"),
        ({"messages": [user(AUDIO), {"role": "assistant", "content": "hello"}]}, "messages"),
        ({"messages": [{"role": "user", "content": "hello"}]}, "messages"),
        ({"messages": [{"role": "system", "content": "be brief"}, user(AUDIO)]}, "messages"),
        ({"messages": [user({"type": "image_url", "image_url": {"url": "http://x"}}, AUDIO)]}, "messages"),
        ({"messages": [user({"type": "input_audio", "input_audio": {"data": "?"}})]}, "messages"),
        ({"messages": [user({"type": "input_audio", "input_audio": [DATA]})]}, "messages"),
        ({"messages": [user({"type": ["text"], "text": "<asr>"}, AUDIO)]}, "messages"),
        ({"messages": [user({**said("<asr>"), "lang": "en"}, AUDIO)]}, "messages"),
        ({"messages": [user({**AUDIO, "start": 1})]}, "messages"),
        (
            {"messages": [user({"type": "input_audio", "input_audio": {"data": DATA, "rate": 8000}})]},
            "messages",
        ),
        ({"messages": [{"role": "system", "content": [AUDIO]}, user(AUDIO)]}, "messages"),
        ({"messages": [user({"type": "input_audio", "input_audio": {"data": "aGVsbG8="}})]}, "messages"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_wrong_or_not_honoured_is_refused_by_its_name(
    ask: Any, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(BadRequestError) as caught:
        ask(**fields)
    assert caught.value.param == param
    assert caught.value.code


def test_a_system_text_without_a_place_is_refused_with_what_a_client_can_do(ask: Any) -> None:
    with pytest.raises(
        BadRequestError, match="write the whole prompt yourself, with <AUDIO> in it"
    ) as caught:
        ask({"role": "system", "content": "be brief"}, user(said("<asr>"), AUDIO))
    assert "--" not in caught.value.message


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"\xff", b'{"model": NaN}', b"[" * 90_000, b'{"n": 1' + b"0" * 5000 + b"}"]
)
def test_a_body_that_is_no_object_is_refused(server: ServerProcess, body: bytes) -> None:
    found = server.ask("POST", "/v1/chat/completions", body, JSON)
    assert (found.status, found.error["code"]) == (400, "invalid_json")


@pytest.mark.parametrize("each", [b"[],", b"{},", b"1,"])
def test_a_body_of_many_small_values_is_refused_before_they_are_made(
    server: ServerProcess, each: bytes
) -> None:
    body = b'{"messages": [' + each * MOST_VALUES + b"1]}"
    found = server.ask("POST", "/v1/chat/completions", body, JSON)
    assert (found.status, found.error["code"]) == (400, "invalid_json")
    assert str(MOST_VALUES) in found.error["message"]


def test_audio_that_is_too_long_for_one_request_names_the_way_to_segments(ask: Any) -> None:
    stream = io.BytesIO()
    soundfile.write(stream, np.zeros(400 * 8000, np.int16), 8000, format="FLAC")
    long = {"type": "input_audio", "input_audio": {"data": base64.b64encode(stream.getvalue()).decode()}}
    with pytest.raises(BadRequestError, match="/v1/audio/transcriptions takes longer audio") as caught:
        ask(user(said("<asr>"), long))
    assert (caught.value.param, caught.value.code) == ("messages", "audio_too_long")
