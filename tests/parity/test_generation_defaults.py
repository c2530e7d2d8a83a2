"""A request that says nothing searches as `generate(do_sample=False)` does with the checkpoint's own file."""

import json
import shutil

import pytest
import torch
from transformers import GenerationConfig

from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles.errors import CheckpointError, RequestError
from fastadasp.runtime import SpeechLM

from .conftest import FULL
from .models import sound
from .test_transformers import inputs_of, until_end

PROMPT = "hello world"
SAMPLING = {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.5}


def test_a_file_without_settings_leaves_the_search_greedy(speech_lm):
    assert speech_lm.manifest.generation.given == {}


@pytest.fixture(scope="module")
def greedy_tokens(model, processor):
    """Tokens that a search without settings finds."""
    inputs = inputs_of(processor, sound(9000), PROMPT)
    config = GenerationConfig(do_sample=False, max_new_tokens=12, pad_token_id=0, eos_token_id=None)
    with torch.no_grad():
        return model.generate(**inputs, generation_config=config)[0, inputs["input_ids"].shape[1] :].tolist()


@pytest.fixture
def built(checkpoint, tmp_path, caplog):
    """A function that builds the checkpoint with a generation config of its own."""

    def built(settings, **options):
        folder, artifact = tmp_path / "checkpoint", tmp_path / "artifact"
        shutil.copytree(checkpoint, folder)
        (folder / "generation_config.json").write_text(json.dumps({"pad_token_id": 0, **settings}))
        caplog.clear()
        build(folder, artifact, BuildOptions((FULL,), **options))
        return folder, SpeechLM.load(artifact, threads=1), list(caplog.messages)

    return built


CASES = {
    "the published file": {"repetition_penalty": 1.1, "max_new_tokens": 12, **SAMPLING},
    "beams": {"num_beams": 4, "length_penalty": 0.3, "early_stopping": True, "max_new_tokens": 9},
    "bans": {"no_repeat_ngram_size": 2, "min_new_tokens": 6, "max_new_tokens": 12, "eos_token_id": [0, 3]},
    "suppressed": {"suppress_tokens": [0, 2, 5], "begin_suppress_tokens": [1, 4], "max_new_tokens": 12},
    "suppressed beams": {
        "suppress_tokens": [0, 4],
        "begin_suppress_tokens": [1],
        "num_beams": 3,
        "repetition_penalty": 1.2,
        "max_new_tokens": 8,
        "eos_token_id": [5, 7],
    },
}
PLACES = ("eos_token_id", "suppress_tokens", "begin_suppress_tokens")  # hold places in the greedy answer


@pytest.mark.parametrize("case", CASES)
def test_an_answer_equals_that_of_generate_with_the_same_file(model, processor, built, greedy_tokens, case):
    settings = {
        name: [greedy_tokens[place] for place in value] if name in PLACES else value
        for name, value in CASES[case].items()
    }
    settings.setdefault("eos_token_id", 2)
    folder, speech_lm, _ = built(settings)
    config = GenerationConfig.from_pretrained(folder)
    inputs = inputs_of(processor, sound(9000), PROMPT)
    with torch.no_grad():
        found = model.generate(**inputs, generation_config=config, do_sample=False)
    options = speech_lm.search_options()
    expected = until_end(found[0, inputs["input_ids"].shape[1] :].tolist(), options)
    (answer,) = speech_lm.generate(sound(9000), PROMPT).hypotheses
    assert (answer.tokens, answer.finished) == expected
    assert answer.tokens != tuple(greedy_tokens[: len(answer.tokens)])
    if options.num_beams == 1:
        stream = speech_lm.stream(sound(9000), PROMPT)
        assert list(stream) is not None
        assert stream.result.hypotheses[0].tokens == answer.tokens


def test_options_of_a_request_count_before_those_of_the_checkpoint(built, greedy_tokens):
    _, speech_lm, _ = built(CASES["the published file"])
    plain = speech_lm.generate(sound(9000), PROMPT, repetition_penalty=1.0, eos_token_ids=())
    assert list(plain.hypotheses[0].tokens) == greedy_tokens


def test_what_no_search_here_can_do_is_named(built):
    settings = {**SAMPLING, "max_length": 300, "bad_words_ids": [[4]], "num_return_sequences": 2}
    _, speech_lm, (note,) = built(settings)
    assert "not taken from the checkpoint: bad_words_ids [[4]], do_sample True, max_length 300, num_" in note
    assert "temperature 0.7, top_k 20, top_p 0.5" in note
    assert "lengths are those of answers: max_new_tokens" in note
    assert speech_lm.manifest.generation.given == {}


def test_a_length_that_another_setting_overrides_is_not_named(built):
    _, _, notes = built({"max_length": 300, "max_new_tokens": 7, "min_length": 2, "min_new_tokens": 1})
    assert notes == []


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"repetition_penalty": 0.9}, "repetition_penalty is 0.9: give a number from 1.0"),
        ({"num_beams": "4"}, "num_beams is '4': give a whole number"),
        ({"suppress_tokens": [1, -3]}, r"suppress_tokens is \(1, -3\): give a tuple of token ids"),
        ({"min_new_tokens": 9, "max_new_tokens": 3}, "min_new_tokens is 9 and max_new_tokens 3"),
        ({"max_new_tokens": 0, "num_beams": 0}, "num_beams is 0.*max_new_tokens is 0"),
    ],
)
def test_a_setting_that_cannot_be_honoured_is_refused_with_its_file(built, settings, fault):
    with pytest.raises(CheckpointError, match=rf"generation_config\.json: .*{fault}.*; correct the file"):
        built(settings)


@pytest.mark.parametrize("name", ["eos_token_id", "suppress_tokens", "begin_suppress_tokens"])
def test_a_token_that_the_model_lacks_is_refused_and_not_built_into_an_artifact(built, name):
    with pytest.raises(CheckpointError, match=rf"{name}s?: 99999 is not one of \d+ tokens; give ids of this"):
        built({name: [2, 99999]})


def test_a_default_prompt_is_that_of_requests_without_one(built):
    _, speech_lm, _ = built({"max_new_tokens": 5}, prompt="hello")
    answers = [speech_lm.generate(sound(9000), *given).hypotheses for given in ((), ("hello",), ("",))]
    assert answers[0] == answers[1] != answers[2]
    assert speech_lm.manifest.prompt.default_prompt == "hello"


def test_a_default_prompt_that_the_model_cannot_take_is_refused(built):
    with pytest.raises(RequestError, match="stands 2 times"):
        built({}, prompt="<|AUDIO|> <|AUDIO|>")
