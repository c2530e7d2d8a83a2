"""Audio that is encoded once serves every request about it, as the audio itself would."""

import numpy as np
import pytest

from fastadasp.profiles.errors import AudioError, RequestError
from fastadasp.runtime import SpeechLM

RATE = 16000


@pytest.fixture(scope="module")
def model(tiny_artifact):
    return SpeechLM.load(tiny_artifact, threads=1)


def answer(result):
    return result.text, result.hypotheses, result.prefix_lengths, result.kept_ratio, result.audio_seconds


@pytest.mark.parametrize("num_beams", [1, 3])
def test_answers_equal_those_to_the_audio_under_every_profile(model, clip, num_beams):
    encoded, options = model.encode(clip), {"num_beams": num_beams, "max_new_tokens": 5}
    for profile in model.profiles:
        expected = model.generate(clip, "hello", profile=profile, **options)
        assert answer(model.generate(encoded, "hello", profile=profile, **options)) == answer(expected)


def test_a_stream_takes_it_too(model, clip):
    expected = list(model.stream(clip, max_new_tokens=5))
    assert list(model.stream(model.encode(clip), max_new_tokens=5)) == expected


def test_encoding_is_timed_once_and_is_no_part_of_the_request(model, clip):
    encoded = model.encode(clip)
    latency = model.generate(encoded, max_new_tokens=2).latency
    assert all(encoded.stages[name] > 0 for name in ("audio", "mel", "encoder"))
    assert all(latency.stages[name] == 0 for name in ("audio", "mel", "encoder"))


def test_another_model_refuses_it(model, tiny_artifact, clip):
    other = SpeechLM.load(tiny_artifact, threads=1)
    with pytest.raises(RequestError, match=r"clip\.wav was encoded by another model; encode it with this"):
        other.generate(model.encode(clip))


def test_audio_that_no_request_could_use_is_refused_before_it_is_encoded(model):
    with pytest.raises(AudioError, match=r"60\.0 s take 1500 rows; this model's 1024 positions hold at most"):
        model.encode(np.zeros(60 * RATE, np.float32))
    with pytest.raises(AudioError, match="give no audio token"):
        model.encode(np.zeros(1, np.float32))


def test_prompt_and_answer_count_when_a_request_uses_it(model):
    encoded = model.encode(np.zeros(38 * RATE, np.float32))
    with pytest.raises(AudioError, match="max_new_tokens 100"):
        model.generate(encoded, max_new_tokens=100)
