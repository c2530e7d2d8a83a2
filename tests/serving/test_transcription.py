"""Transcriptions and translations, as OpenAI's own client asks for them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import pytest
from openai import APIStatusError, BadRequestError, NotFoundError

from fastadasp.runtime import SpeechLM
from fastadasp.runtime.segments.subtitles import SUBTITLES
from server_process import NAME, ServerProcess, form

from .conftest import CLIP, PROFILES, SAID

AUDIO = ("dates-01.flac", CLIP.read_bytes())
BEAMS = (1, 3, 5)


@pytest.fixture
def ask(server: ServerProcess) -> Any:
    """Transcribe the clip."""
    with server.client() as client:

        def ask(**fields: Any) -> Any:
            return client.audio.transcriptions.create(**{"file": AUDIO, "model": NAME, **fields})

        yield ask


def refusal(call: Any, **fields: Any) -> dict[str, Any]:
    with pytest.raises(BadRequestError) as caught:
        call(**fields)
    error: Any = caught.value.body
    assert error["type"] == "invalid_request_error"
    assert caught.value.status_code == 400
    return dict(error)


def test_json_has_the_text_and_how_much_was_heard(ask: Any, model: SpeechLM) -> None:
    found = ask()
    assert found.text == SAID
    assert found.usage.type == "duration"
    assert found.usage.seconds == pytest.approx(model.encode(CLIP).audio.seconds, abs=1e-3)


def test_text_is_a_line(ask: Any) -> None:
    assert ask(response_format="text") == f"{SAID}\n"


def test_verbose_json_has_the_segments_with_their_times(ask: Any, model: SpeechLM) -> None:
    found = ask(response_format="verbose_json", timestamp_granularities=["segment"])
    (wanted,) = model.segments(CLIP, "<asr>")
    (segment,) = found.segments
    assert (found.text, found.task, found.language) == (SAID, "transcribe", "")
    assert found.duration == pytest.approx(model.encode(CLIP).audio.seconds, abs=1e-3)
    assert (segment.start, segment.end) == (round(wanted.start, 3), round(wanted.end, 3))
    best = wanted.result.hypotheses[0]
    assert (segment.text, tuple(segment.tokens)) == (SAID, best.tokens)
    assert segment.avg_logprob == pytest.approx(best.score, abs=1e-4)
    assert (segment.id, segment.seek, segment.temperature) == (0, round(100 * wanted.start), 0)
    assert segment.compression_ratio > 0.5


@pytest.mark.parametrize("form_of_answer", ["srt", "vtt"])
def test_subtitles_are_those_of_the_command_line(ask: Any, model: SpeechLM, form_of_answer: str) -> None:
    written = SUBTITLES[form_of_answer].written(model.segments(CLIP, "<asr>"))
    assert ask(response_format=form_of_answer) == "".join(written)


def test_a_stream_has_the_text_token_by_token_and_the_whole_at_its_end(ask: Any, model: SpeechLM) -> None:
    *deltas, done = ask(stream=True)
    assert [event.type for event in deltas] == ["transcript.text.delta"] * len(deltas)
    assert [event.delta for event in deltas] == [text for text in model.stream(CLIP, "<asr>") if text]
    assert (done.type, done.text) == ("transcript.text.done", SAID)
    result = model.generate(CLIP, "<asr>")
    assert done.usage.input_tokens == result.text_rows + result.audio_rows
    assert done.usage.output_tokens == result.latency.output_tokens
    assert done.usage.total_tokens == done.usage.input_tokens + done.usage.output_tokens


def test_beams_are_streamed_as_one_piece(ask: Any) -> None:
    delta, done = ask(stream=True, extra_body={"num_beams": 3})
    assert (delta.delta, done.text) == (SAID, SAID)


@pytest.mark.parametrize("how", [{"chunking_strategy": "auto"}, {"response_format": "verbose_json"}])
def test_a_stream_in_segments_tells_their_times(ask: Any, model: SpeechLM, how: dict[str, str]) -> None:
    *deltas, segment, done = ask(stream=True, **how)
    told: list[str] = []
    (wanted,) = model.segments(CLIP, "<asr>", tell=told.append)
    assert done.text == segment.text == SAID
    assert [delta.delta for delta in deltas] == [piece for piece in told if piece]
    assert len(deltas) > 1
    assert segment.type == "transcript.text.segment"
    assert (segment.start, segment.end) == (round(wanted.start, 3), round(wanted.end, 3))


def test_long_audio_is_answered_in_segments_in_every_format(
    ask: Any, model: SpeechLM, long_clip: bytes
) -> None:
    wanted = [each.text for each in model.segments(long_clip, "<asr>")]
    assert len(wanted) > 10
    file = ("long.wav", long_clip)
    assert ask(file=file).text == " ".join(wanted)
    verbose = ask(file=file, response_format="verbose_json")
    assert [segment.text for segment in verbose.segments] == wanted
    assert verbose.text == " ".join(wanted)
    *events, done = ask(file=file, stream=True)
    assert done.text == " ".join(wanted)
    assert [event.text for event in events if event.type == "transcript.text.segment"] == wanted
    told = "".join(
        event.delta if event.type == "transcript.text.delta" else f"|{event.text}|" for event in events
    )
    assert told == " ".join(f"{text}|{text}|" for text in wanted)
    assert sum(event.type == "transcript.text.delta" for event in events) > 2 * len(wanted)


def test_segments_by_several_beams_are_streamed_as_one_piece_each(ask: Any, long_clip: bytes) -> None:
    *events, done = ask(file=("long.wav", long_clip), stream=True, extra_body={"num_beams": 3})
    deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
    assert deltas[1:] == [f" {event.text}" for event in events if event.type == "transcript.text.segment"][1:]
    assert "".join(deltas) == done.text


def test_the_way_to_cut_is_the_clients(ask: Any, long_clip: bytes) -> None:
    how = {"type": "server_vad", "threshold": 0.6, "silence_duration_ms": 5000}
    found = ask(file=("a.wav", long_clip), response_format="verbose_json", chunking_strategy=how)
    usual = ask(file=("a.wav", long_clip), response_format="verbose_json")
    assert 1 <= len(found.segments) < len(usual.segments)
    written = ask(
        file=("a.wav", long_clip),
        response_format="verbose_json",
        extra_body={"chunking_strategy": json.dumps({**how, "prefix_padding_ms": None})},
    )
    assert [(each.start, each.text) for each in written.segments] == [
        (each.start, each.text) for each in found.segments
    ]


def test_silence_has_no_segments(ask: Any, server: ServerProcess) -> None:
    import io

    import numpy as np
    import soundfile

    stream = io.BytesIO()
    soundfile.write(stream, np.zeros(48000, np.float32), 16000, format="WAV")
    file = ("a.wav", stream.getvalue())
    assert ask(file=file, response_format="verbose_json").segments == []
    assert ask(file=file, response_format="srt") == ""
    (done,) = ask(file=file, stream=True, chunking_strategy="auto")
    assert done.text == ""


def test_search_prompt_and_profile_are_those_of_the_request(ask: Any, model: SpeechLM) -> None:
    fields = {"num_beams": 3, "length_penalty": 0.5, "max_new_tokens": 2}
    found = ask(model=f"{NAME}:sparse-30", prompt="<fr>", extra_body=fields)
    assert found.text == model.generate(CLIP, "<fr>", profile="sparse-30", **fields).text


def test_the_answer_says_which_profile_has_answered(server: ServerProcess) -> None:
    for asked, profile in ((NAME, "full"), (f"{NAME}:sparse-30", "sparse-30")):
        for more in ({}, {"stream": "true"}, {"response_format": "vtt"}):
            body, headers = form({"model": asked, **more}, CLIP.read_bytes())
            found = server.ask("POST", "/v1/audio/transcriptions", body, headers)
            assert found.headers["x-fastadasp-profile"] == profile


def test_a_translation_needs_words_that_ask_for_one(server: ServerProcess, model: SpeechLM) -> None:
    with server.client() as client:
        create = client.audio.translations.create
        found = create(file=AUDIO, model=NAME, prompt="<fr>")
        assert found.text == model.generate(CLIP, "<fr>").text
        verbose: Any = create(file=AUDIO, model=NAME, prompt="<fr>", response_format="verbose_json")
        assert (verbose.task, verbose.text) == ("translate", found.text)
        assert refusal(create, file=AUDIO, model=NAME)["param"] == "prompt"


def test_sixteen_clients_at_once_get_the_answers_of_single_runs(
    server: ServerProcess, model: SpeechLM, clips: dict[str, bytes]
) -> None:
    asked = list(product(PROFILES, BEAMS, tuple(clips)[::2]))
    wanted = [
        model.generate(clips[clip], "<asr>", profile=profile, num_beams=beams).text
        for profile, beams, clip in asked
    ]
    with server.client() as client, ThreadPoolExecutor(16) as threads:

        def ask(each: tuple[str, int, str]) -> str:
            profile, beams, clip = each
            file, model_name = (clip, clips[clip]), f"{NAME}:{profile}"
            body = {"num_beams": beams}
            create = client.audio.transcriptions.create
            if beams == 1:
                events = create(file=file, model=model_name, stream=True, extra_body=body)
                texts = [event.text for event in events if event.type == "transcript.text.done"]
                return texts[0]
            return create(file=file, model=model_name, extra_body=body).text

        assert list(threads.map(ask, asked)) == wanted
    assert server.metric("running_requests") == server.metric("queue_requests") == 0


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 0.7}, "temperature"),
        ({"language": "en"}, "language"),
        ({"include": ["logprobs"]}, "include[]"),
        ({"response_format": "diarized_json"}, "response_format"),
        ({"extra_body": {"response_format": "xml"}}, "response_format"),
        (
            {"response_format": "verbose_json", "timestamp_granularities": ["word"]},
            "timestamp_granularities[]",
        ),
        ({"timestamp_granularities": ["segment"]}, "timestamp_granularities[]"),
        ({"timestamp_granularities": ["word"]}, "timestamp_granularities[]"),
        (
            {"response_format": "verbose_json", "timestamp_granularities": ["phrase"]},
            "timestamp_granularities[]",
        ),
        ({"stream": True, "response_format": "srt"}, "stream"),
        ({"extra_body": {"stream": "perhaps"}}, "stream"),
        ({"extra_body": {"num_beams": 0}}, "num_beams"),
        ({"extra_body": {"num_beams": 1000}}, "num_beams"),
        ({"extra_body": {"num_beams": "many"}}, "num_beams"),
        ({"extra_body": {"num_beams": "1_0"}}, "num_beams"),
        ({"extra_body": {"num_beams": "\u0663"}}, "num_beams"),
        ({"extra_body": {"max_new_tokens": 1.5}}, "max_new_tokens"),
        ({"extra_body": {"max_new_tokens": 10_000}}, "max_new_tokens"),
        ({"extra_body": {"length_penalty": "nan"}}, "length_penalty"),
        ({"extra_body": {"keywords[]": "a"}}, "keywords[]"),
        ({"extra_body": {"beam_size": 3}}, "beam_size"),
        ({"chunking_strategy": {"type": "server_vad", "threshold": 2.0}}, "chunking_strategy"),
        ({"extra_body": {"chunking_strategy": "fixed"}}, "chunking_strategy"),
        *(
            ({"extra_body": {"chunking_strategy": text, **more}}, f"chunking_strategy{name}")
            for text, more, name in (
                ("{", {}, ""),
                ("{}", {}, ""),
                ('{"type": ["auto"]}', {}, ""),
                ('{"threshold": 0.5}', {}, ""),
                ('{"type": "server_vad", "threshold": 2.0}', {}, ""),
                ('{"type": "server_vad", "threshold": true}', {}, "[threshold]"),
                ('{"type": "server_vad", "silence_duration_ms": 30001}', {}, "[silence_duration_ms]"),
                ('{"type": "server_vad", "silence_duration_ms": -5}', {}, "[silence_duration_ms]"),
                ('{"type": "server_vad", "eagerness": "low"}', {}, "[eagerness]"),
                ('{"type": "auto"}', {"chunking_strategy[threshold]": "0.5"}, "[threshold]"),
            )
        ),
        (
            {"chunking_strategy": {"type": "server_vad", "silence_duration_ms": 30_001}},
            "chunking_strategy[silence_duration_ms]",
        ),
        (
            {"chunking_strategy": {"type": "server_vad", "prefix_padding_ms": 10**9}},
            "chunking_strategy[prefix_padding_ms]",
        ),
        ({"prompt": "<AUDIO><AUDIO>"}, "prompt"),
        ({"prompt": "<asr> " * 9000}, "prompt"),
        ({"file": ("a.wav", b"")}, "file"),
        ({"file": ("a.wav", b"no audio at all")}, "file"),
        ({"file": ("a.flac", CLIP.read_bytes()[:9000])}, "file"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_wrong_or_not_honoured_is_refused_by_its_name(
    ask: Any, fields: dict[str, Any], param: str
) -> None:
    error = refusal(ask, **fields)
    assert error["param"] == param
    assert error["code"]
    assert len(error["message"]) > 20


def test_times_of_words_that_the_artifact_does_not_tell_are_refused_with_the_remedy(ask: Any) -> None:
    asked = {"response_format": "verbose_json", "timestamp_granularities": ["segment", "word"]}
    error = refusal(ask, model=f"{NAME}:sparse-30", **asked)
    assert (error["param"], error["code"]) == ("timestamp_granularities[]", "unsupported_value")
    assert f"{NAME}:sparse-30" in error["message"]
    assert "build --word-heads" in error["message"]


def test_an_unknown_model_is_named_with_those_that_there_are(ask: Any) -> None:
    for name in ("whisper-1", f"{NAME}:none", f"{NAME}:", f"other:{PROFILES[0]}"):
        with pytest.raises(NotFoundError, match=f"{NAME}:sparse-30") as caught:
            ask(model=name)
        assert (caught.value.param, caught.value.code) == ("model", "model_not_found")


def test_faults_of_a_request_are_not_sent_again(server: ServerProcess) -> None:
    before = server.metric("requests_total", route="/v1/audio/transcriptions", status="400")
    with server.client(max_retries=3) as client, pytest.raises(APIStatusError):
        client.audio.transcriptions.create(file=AUDIO, model=NAME, temperature=1)
    after = server.metric("requests_total", route="/v1/audio/transcriptions", status="400")
    assert after == before + 1


@pytest.mark.parametrize(
    ("fields", "audio", "param"),
    [
        ({"model": NAME}, None, "file"),
        ({}, b"x", "model"),
        ({"model": NAME, "file": "text"}, None, "file"),
    ],
)
def test_a_field_that_is_missing_is_named(
    server: ServerProcess, fields: dict[str, str], audio: bytes | None, param: str
) -> None:
    body, headers = form(fields, audio)
    found = server.ask("POST", "/v1/audio/transcriptions", body, headers)
    assert (found.status, found.error["param"]) == (400, param)


def test_a_field_that_stands_twice_is_refused(server: ServerProcess) -> None:
    body, headers = form({"model": NAME}, b"x")
    part = f'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\n{NAME}\r\n'.encode()
    found = server.ask("POST", "/v1/audio/transcriptions", part + body, headers)
    assert (found.status, found.error["param"]) == (400, "model")


@pytest.mark.parametrize(
    ("name", "value", "param"),
    [
        (b"prompt", "café".encode("latin-1"), "prompt"),
        ("café".encode("latin-1"), b"x", "café"),
        (b"prompt", b"x" * 70_000, None),
        (b'file"; filename="b.wav', b"x", "file"),
    ],
    ids=["text", "name", "long", "files"],
)
def test_a_form_that_is_not_as_forms_are_is_refused(
    server: ServerProcess, name: bytes, value: bytes, param: str | None
) -> None:
    body, headers = form({"model": NAME}, b"x")
    part = b'--B\r\nContent-Disposition: form-data; name="' + name + b'"\r\n\r\n' + value + b"\r\n"
    found = server.ask("POST", "/v1/audio/transcriptions", part + body, headers)
    assert (found.status, found.error["param"]) == (400, param)
    assert found.error["code"]


@pytest.mark.parametrize("charset", ["undefined", "punycode", "unicode_escape", "latin-1", "none"])
def test_texts_of_another_encoding_are_refused(server: ServerProcess, charset: str) -> None:
    body, headers = form({"model": NAME, "prompt": "<asr>", "\\ud800": "x"}, b"x")
    headers["content-type"] += f"; charset={charset}"
    found = server.ask("POST", "/v1/audio/transcriptions", body, headers)
    assert (found.status, found.error["param"]) == (415, "content-type")


def test_texts_are_utf_8_with_and_without_a_name_of_it(server: ServerProcess) -> None:
    body, headers = form({"model": "über:😀"}, b"x")
    for charset in ("", "; charset=utf-8", "; Charset=UTF8"):
        kind = {"content-type": headers["content-type"] + charset}
        found = server.ask("POST", "/v1/audio/transcriptions", body, kind)
        assert (found.status, found.error["param"]) == (404, "model")
        assert "'über:😀'" in found.error["message"]


@pytest.mark.parametrize("boundary", ["", "; boundary=", "; boundary=X", f"; boundary={'b' * 300}"])
def test_a_form_without_its_boundary_is_refused_and_fills_no_log(
    server: ServerProcess, boundary: str
) -> None:
    body, _ = form({"model": NAME}, b"x")
    kind = {"content-type": f"multipart/form-data{boundary}"}
    found = server.ask("POST", "/v1/audio/transcriptions", body, kind)
    assert (found.status, found.error["code"]) == (400, "invalid_form")
    assert "oundary" not in server.log


def test_bodies_of_other_types_are_refused(server: ServerProcess) -> None:
    for path in ("/v1/audio/transcriptions", "/v1/audio/translations", "/v1/chat/completions"):
        for kind in ("application/xml", "application/x-www-form-urlencoded", ""):
            found = server.ask("POST", path, b"model=demo", {"content-type": kind})
            assert (found.status, found.error["param"]) == (415, "content-type")


def test_models_are_the_profiles(server: ServerProcess) -> None:
    with server.client() as client:
        found = client.models.list().data
        assert [each.id for each in found] == [f"{NAME}:{profile}" for profile in PROFILES]
        assert all(each.created > 1e9 and each.owned_by == "fastadasp" for each in found)
        assert client.models.retrieve(f"{NAME}:sparse-30").id == f"{NAME}:sparse-30"
        for name in ("none", f"{NAME}:auto"):
            with pytest.raises(NotFoundError, match=f"{NAME}:sparse-30"):
                client.models.retrieve(name)


def test_unknown_paths_and_methods_have_the_body_of_a_fault(server: ServerProcess) -> None:
    assert server.get("/v2/none").error["code"] == "not_found"
    refused = server.get("/v1/chat/completions")
    assert (refused.status, refused.headers["allow"]) == (405, "POST")
    assert json.loads(server.get("/health").body) == {"status": "ok"}
    assert server.get("/ready").status == 200
