"""One loaded model, many profiles, many threads: nothing of a request reaches another."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from fastadasp.runtime import SpeechLM

from .conftest import FULL, REDUCED
from .models import codec, prompt_ids, sound

THREADS = 8
PROFILES = [profile.name for profile in (FULL, *REDUCED)]
REQUESTS = [
    (profile, samples, num_beams)
    for i, profile in enumerate(PROFILES[::3])
    for samples, num_beams in [((3000, 17000, 32000, 70000)[i % 4], 1 + i % 5)]
]


def answer(model, profile, samples, num_beams):
    found = model.generate(
        sound(samples, seed=samples),
        prompt_ids(),
        profile=profile,
        num_beams=num_beams,
        num_return_sequences=num_beams,
        max_new_tokens=10,
    )
    return found.prefix_lengths, [(h.tokens, h.finished, h.score) for h in found.hypotheses]


@pytest.fixture(scope="module")
def alone(artifact):
    """The answer to each request by a model that was loaded for its profile and does nothing else."""
    return [answer(SpeechLM.load(artifact, request[0], threads=1), *request) for request in REQUESTS]


def test_switching_profiles_changes_no_answer(speech_lm, alone):
    for request, expected in [*zip(REQUESTS, alone, strict=True)] * 2:
        assert answer(speech_lm, *request) == expected


def test_the_default_profile_is_the_one_that_was_loaded(artifact, alone):
    for (profile, samples, num_beams), expected in [*zip(REQUESTS, alone, strict=True)][::4]:
        model = SpeechLM.load(artifact, profile, threads=1)
        assert answer(model, None, samples, num_beams) == expected


def test_threads_get_the_answers_of_a_sequential_run(artifact, alone):
    model = SpeechLM.load(artifact, threads=1)
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda request: answer(model, *request), REQUESTS * 4))
    assert found == alone * 4


def test_streams_of_several_threads_equal_generate(speech_lm, alone):
    def stream(profile, samples):
        pieces = speech_lm.stream(
            sound(samples, seed=samples), prompt_ids(), profile=profile, max_new_tokens=10
        )
        return "".join(pieces)

    requests = [(profile, samples) for profile, samples, num_beams in REQUESTS if num_beams == 1]
    with ThreadPoolExecutor(THREADS) as pool:
        texts = list(pool.map(lambda request: stream(*request), requests))
    tokens = [hypotheses[0][0] for _, hypotheses in alone if len(hypotheses) == 1]
    assert texts == [codec(speech_lm).decode(row) for row in tokens]


def test_prepacked_weights_change_no_answer(artifact, alone):
    model = SpeechLM.load(artifact, threads=1, prepack=False)
    for request, (lengths, expected) in zip(REQUESTS, alone, strict=True):
        found_lengths, found = answer(model, *request)
        assert found_lengths == lengths
        assert [row[:2] for row in found] == [row[:2] for row in expected]
        assert [row[2] for row in found] == pytest.approx([row[2] for row in expected], abs=1e-5)
