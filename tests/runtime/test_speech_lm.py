"""How a request says how to search: by a record or by its fields, with the model's end tokens as default."""

import numpy as np
import pytest

from fastadasp.profiles.errors import LongAudioError, RequestError
from fastadasp.runtime import SearchOptions, SpeechLM
from fastadasp.runtime.artifact.artifact import Artifact


@pytest.fixture(scope="module")
def model(tiny_artifact):
    return SpeechLM.load(tiny_artifact, threads=1)


@pytest.mark.parametrize(
    "options",
    [{}, {"num_beams": 3, "num_return_sequences": 2}, {"eos_token_ids": ()}, {"eos_token_ids": (7, 8)}],
)
def test_a_record_searches_as_its_fields_do(model, clip, options):
    options = {"max_new_tokens": 6, **options}
    by_name = model.generate(clip, "hello", **options)
    assert model.generate(clip, "hello", search=SearchOptions(**options)).hypotheses == by_name.hypotheses


def test_a_stream_takes_a_record_too(model, clip):
    expected = list(model.stream(clip, max_new_tokens=4))
    assert list(model.stream(clip, search=SearchOptions(max_new_tokens=4))) == expected


def test_the_end_tokens_are_those_of_the_model_unless_some_or_none_are_given(model):
    own = model.manifest.decoder.eos_token_ids
    assert own
    for given, expected in ((None, own), ((), ()), ((5,), (5,))):
        record = SearchOptions(num_beams=2, eos_token_ids=given)
        assert model.search_options(record) == SearchOptions(num_beams=2, eos_token_ids=expected).resolved()
        assert model.search_options(num_beams=2, eos_token_ids=given) == model.search_options(record)
    assert model.search_options().eos_token_ids == model.search_options(SearchOptions()).eos_token_ids == own


@pytest.mark.parametrize("call", ["generate", "stream"])
def test_a_record_and_fields_at_once_are_refused(model, clip, call):
    with pytest.raises(
        RequestError,
        match="search and num_beams, max_new_tokens: give a record of SearchOptions or its fields, not both",
    ):
        getattr(model, call)(clip, search=SearchOptions(), num_beams=1, max_new_tokens=4)


def test_tokens_of_a_search_that_the_model_does_not_have_are_refused_together(model):
    size = model.manifest.decoder.dims.vocab_size
    with pytest.raises(RequestError) as raised:
        model.search_options(eos_token_ids=(1, size), suppress_tokens=(10**9,))
    line = str(raised.value)
    assert f"eos_token_ids: {size} is not one of {size} tokens" in line
    assert f"suppress_tokens: 1000000000 is not one of {size} tokens" in line
    assert model.search_options(eos_token_ids=(size - 1,)).eos_token_ids == (size - 1,)


def test_profiles_are_loaded_before_they_are_used(tiny_artifact, clip, monkeypatch):
    with SpeechLM.load(tiny_artifact, threads=1) as model:
        model.prepare(*model.profiles)
        monkeypatch.setattr(Artifact, "opened", None)  # nothing can be read any more
        for profile in model.profiles:
            assert model.generate(clip, "hello", profile=profile, max_new_tokens=2).hypotheses
        with pytest.raises(RequestError, match="profile 'none' is not in this artifact"):
            model.prepare("none")


def test_what_is_too_long_for_one_request_is_an_error_of_its_own(model):
    with pytest.raises(LongAudioError, match="cut the audio"):
        model.generate(np.zeros(16000 * 100, np.float32), "hello")
