"""An answer that is streamed: its pieces, and the result at their end."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastadasp.profiles.errors import EngineError, RequestError
from fastadasp.runtime import GenerationResult, SpeechLM

NOT_ENDED = "the stream has not ended, so it has no result yet: read all of its pieces first"
ENDED_EARLY = "closed or failed before its end, so it has no result: make the request again"


@pytest.fixture(scope="module")
def model(tiny_artifact):
    return SpeechLM.load(tiny_artifact, threads=1)


@pytest.fixture
def stream(model, clip):
    return model.stream(clip, "hello", max_new_tokens=6)


def without_times(result):
    return {**vars(result), "latency": (result.latency.output_tokens, result.latency.steps)}


@pytest.mark.parametrize("tokens", [1, 2, 12])
def test_the_result_is_that_of_generate_and_its_text_is_the_pieces(model, clip, tokens):
    for profile in model.profiles:
        request = {"profile": profile, "max_new_tokens": tokens}
        stream = model.stream(clip, "hello", **request)
        pieces = list(stream)
        assert "".join(pieces) == stream.result.text
        expected = model.generate(clip, "hello", **request)
        assert without_times(stream.result) == without_times(expected)


def test_the_result_says_what_was_used_and_why_it_ended(model, clip):
    whole = model.generate(clip, "hello", max_new_tokens=6, eos_token_ids=())
    assert whole.finish_reason == "length"
    last = whole.hypotheses[0].tokens[3]
    first_place = whole.hypotheses[0].tokens.index(last)
    stream = model.stream(clip, "hello", max_new_tokens=6, eos_token_ids=(last,))
    text = "".join(stream)
    result = stream.result
    assert isinstance(result, GenerationResult)
    assert result.finish_reason == result.hypotheses[0].finish_reason == "stop"
    assert result.hypotheses[0].finished
    assert result.hypotheses[0].tokens == whole.hypotheses[0].tokens[:first_place]
    assert result.hypotheses[0].text == text
    assert result.latency.output_tokens == first_place + 1
    assert 0 < result.latency.first_token_ms < result.latency.request_ms
    assert result.audio_rows == len(model.encode(clip).rows)
    assert result.prefix_lengths[0] == result.audio_rows + result.text_rows


def test_there_is_no_result_before_the_last_piece_is_read(stream):
    for _ in range(3):
        with pytest.raises(RequestError, match=NOT_ENDED):
            _ = stream.result
        next(stream)
    assert list(stream)
    assert stream.result.text
    assert list(stream) == []
    assert stream.result.text


def test_a_stream_that_is_closed_finds_no_more_and_has_no_result(model, stream, monkeypatch):
    next(stream)
    stream.close()
    monkeypatch.setattr(model._loaded.sessions.decode, "run", None)
    assert list(stream) == []
    with pytest.raises(RequestError, match=ENDED_EARLY):
        _ = stream.result


def test_a_stream_that_failed_has_no_result(model, stream, monkeypatch):
    def fail(inputs):
        raise EngineError("no memory")

    next(stream)
    monkeypatch.setattr(model._loaded.sessions.decode, "run", fail)
    with pytest.raises(EngineError, match="no memory"):
        list(stream)
    with pytest.raises(RequestError, match=ENDED_EARLY):
        _ = stream.result


def test_faults_are_raised_by_the_call_before_anything_is_encoded(
    model, clip, tiny_artifact, tmp_path, monkeypatch
):
    monkeypatch.setattr(model._loaded, "audio_encoder", SimpleNamespace(encode=None))
    for options, fault in (
        ({"num_beams": 2}, "num_beams is 2: tokens are streamed by greedy search, give 1"),
        ({"beams": 1}, "option beams is unknown"),
        ({"profile": "none"}, "profile 'none' is not in this artifact"),
    ):
        with pytest.raises(RequestError, match=fault):
            model.stream(clip, **options)
    monkeypatch.setattr(model._loaded, "codec", None)
    with pytest.raises(RequestError, match="it has no tokenizer; add that of the original model"):
        model.stream(clip)


@settings(max_examples=300)
@given(tokens=st.lists(st.integers(0, 399), max_size=12))
def test_the_pieces_of_any_tokens_join_to_their_text(model, tokens):
    codec = model._loaded.codec
    assert "".join(codec.stream(tokens)) == codec.decode(tokens)
