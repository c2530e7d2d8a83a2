"""The unreduced model against `generate` of transformers, from samples and text to hypotheses."""

import itertools

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from fastadasp.runtime.decoding.options import ResolvedSearch

from .models import AFTER, BEFORE, SAMPLE_RATE, audio_rows, codec, our_rows, prompt_ids, sound

CASES = 24
SAMPLES = (961, 1120, 1281, 1601, 2000, 3200, 9999, 16000, 20001, 31680, 31999, 32000)
ONE_TOKEN = (321, 480, 481, 800, 960)  # `generate` itself fails on a single audio token
PROMPTS = (
    "transcribe",
    " the audio to the user",
    "hello world, what is said?",
    "0",
    "<|im_start|>user\nAudio 1: <|audio_bos|><|AUDIO|><|audio_eos|>\nhello<|im_end|>\n"
    "<|im_start|>assistant\n",
)
ENDS = ((), (2,), (1, 4, 7), (0, 3, 5, 6, 9))  # places in the answer that goes on without an end token
LENGTH_PENALTIES = (1.0, 0.0, 2.0, -1.0, 0.6)
EARLY_STOPPING = (False, True, "never")
PENALTIES = ({}, {}, {"min_new_tokens": 5}, {"repetition_penalty": 1.3}, {}, {"no_repeat_ngram_size": 3}, {})


def settings_of(case):
    """Search settings and places of the end tokens, spread over the cases by cycles of coprime lengths."""
    cycles = (ENDS, LENGTH_PENALTIES, EARLY_STOPPING, PENALTIES)
    ends, length_penalty, early_stopping, penalties = (cycle[case % len(cycle)] for cycle in cycles)
    return ends, {"length_penalty": length_penalty, "early_stopping": early_stopping, **penalties}


def request_of(case):
    return sound(SAMPLES[case % len(SAMPLES)], seed=case), PROMPTS[case % len(PROMPTS)]


def whole_text(prompt):
    return prompt if "<|AUDIO|>" in prompt else f"<|audio_bos|><|AUDIO|><|audio_eos|>{prompt}"


def inputs_of(processor, samples, prompt):
    return processor(text=whole_text(prompt), audio=[samples], sampling_rate=SAMPLE_RATE, return_tensors="pt")


def transformers_answers(model, inputs, options):
    """[(tokens, ended by an end token, score)] of `generate`; greedy search gives no score: it is summed."""
    beams = options.num_beams > 1
    config = GenerationConfig(
        do_sample=False,
        num_beams=options.num_beams,
        max_new_tokens=options.max_new_tokens,
        min_new_tokens=options.min_new_tokens,
        length_penalty=options.length_penalty if beams else None,
        early_stopping=options.early_stopping if beams else None,
        eos_token_id=list(options.end_tokens) or None,
        repetition_penalty=options.repetition_penalty,
        no_repeat_ngram_size=options.no_repeat_ngram_size,
        num_return_sequences=options.num_return_sequences,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_scores=True,
        output_logits=True,
    )
    with torch.no_grad():
        found = model.generate(**inputs, generation_config=config)
    rows = found.sequences[:, inputs["input_ids"].shape[1] if "input_ids" in inputs else 0 :].tolist()
    scores = found.sequences_scores.tolist() if beams else [summed_score(found.logits, rows[0], options)]
    return [(*until_end(row, options), score) for row, score in zip(rows, scores, strict=True)]


def summed_score(logits, row, options):
    log_probs = [step[0].log_softmax(-1)[token].item() for step, token in zip(logits, row, strict=True)]
    return sum(log_probs) / len(log_probs) ** options.length_penalty


def until_end(row, options):
    ends = [place for place, token in enumerate(row) if token in options.end_tokens]
    return (tuple(row[: ends[0]]), True) if ends else (tuple(row), False)


def atol(options):
    """1e-4 on a sum of log-probabilities; a negative length penalty multiplies sum and rounding alike."""
    return 1e-4 * max(1.0, options.max_new_tokens**-options.length_penalty)


def assert_same(found, expected, options):
    assert [(h.tokens, h.finished) for h in found] == [answer[:2] for answer in expected]
    assert [h.score for h in found] == pytest.approx([answer[2] for answer in expected], abs=atol(options))


@pytest.fixture(scope="module")
def end_tokens(model, processor):
    """The end tokens of each case: tokens of its own greedy answer, so that they do come up."""
    options = ResolvedSearch(max_new_tokens=10)
    answers = {}
    for case in range(CASES):
        inputs = inputs_of(processor, *request_of(case))
        tokens = transformers_answers(model, inputs, options)[0][0]
        answers[case] = tuple(tokens[place] for place in settings_of(case)[0])
    return answers


@pytest.mark.parametrize("num_beams", [1, 5])
@pytest.mark.parametrize("case", range(CASES))
def test_answers_and_scores_equal_those_of_generate(model, processor, speech_lm, end_tokens, case, num_beams):
    samples, prompt = request_of(case)
    options = ResolvedSearch(
        num_beams=num_beams,
        num_return_sequences=num_beams,
        max_new_tokens=12,
        eos_token_ids=end_tokens[case],
        **settings_of(case)[1],
    )
    expected = transformers_answers(model, inputs_of(processor, samples, prompt), options)
    found = speech_lm.generate(samples, prompt, profile="full", search=options)
    assert_same(found.hypotheses, expected, options)
    assert found.text == processor.decode(expected[0][0], skip_special_tokens=True).strip()


def test_the_cases_end_in_both_ways_and_in_many_lengths(speech_lm, end_tokens):
    answers = [
        speech_lm.generate(
            *request_of(case), max_new_tokens=12, num_beams=5, eos_token_ids=end_tokens[case]
        ).hypotheses[0]
        for case in range(CASES)
    ]
    assert {answer.finished for answer in answers} == {True, False}
    assert len({len(answer.tokens) for answer in answers}) > 5


@pytest.mark.parametrize(
    ("samples", "prompt"), itertools.product(ONE_TOKEN + SAMPLES, (PROMPTS[1], PROMPTS[-1]))
)
def test_prompt_and_audio_take_the_same_rows_as_in_the_processor(
    processor, speech_lm, model, samples, prompt
):
    expected = inputs_of(processor, sound(samples), prompt)["input_ids"][0].tolist()
    ids = codec(speech_lm).encode(prompt)
    found = speech_lm.generate(sound(samples), prompt, profile="full", max_new_tokens=1)
    audio = [model.config.audio_token_id] * (found.prefix_lengths[0] - ids.num_text_rows)
    assert [*ids.before.tolist(), *audio, *ids.after.tolist()] == expected


@pytest.mark.parametrize("case", range(4))
def test_long_answers_equal_generate_though_the_cache_drops_dead_beams(model, processor, speech_lm, case):
    samples, prompt = request_of(case + 3)
    options = ResolvedSearch(num_beams=5, num_return_sequences=5, max_new_tokens=50, eos_token_ids=())
    expected = transformers_answers(model, inputs_of(processor, samples, prompt), options)
    found = speech_lm.generate(samples, prompt, profile="full", search=options)
    assert_same(found.hypotheses, expected, options)
    bytes_a_row = 2 * 4 * speech_lm.manifest.decoder.dims.kv_width
    pool_rows = found.kv_bytes // bytes_a_row // len(found.prefix_lengths) - found.prefix_lengths[0]
    assert 49 <= pool_rows < 1 + 48 * 5


@pytest.mark.parametrize("num_samples", [*ONE_TOKEN, 32001, 32480, 48000, 84800, 128000])
def test_audio_of_any_length_is_one_span_of_all_its_windows(model, extractor, speech_lm, num_samples):
    """transformers takes one window a placeholder; given all rows as one span, it must answer the same."""
    samples = sound(num_samples, seed=3)
    embed = model.get_input_embeddings()
    rows = torch.as_tensor(audio_rows(model, extractor, samples))[:, : embed.embedding_dim]
    prompt = torch.cat([embed(torch.as_tensor(BEFORE)), rows, embed(torch.as_tensor(AFTER))])[None]
    inputs = {"inputs_embeds": prompt.detach(), "attention_mask": torch.ones(prompt.shape[:2])}
    for num_beams in (1, 5):
        options = ResolvedSearch(
            num_beams=num_beams, max_new_tokens=10, num_return_sequences=num_beams, eos_token_ids=()
        )
        found = speech_lm.generate(samples, prompt_ids(), profile="full", search=options)
        assert found.prefix_lengths[0] == prompt.shape[1]
        assert_same(found.hypotheses, transformers_answers(model, inputs, options), options)


def test_the_windows_of_longer_audio_follow_one_another(model, extractor, speech_lm):
    samples = sound(5 * SAMPLE_RATE, seed=4)
    expected = audio_rows(model, extractor, samples)
    np.testing.assert_allclose(our_rows(speech_lm, samples), expected, atol=2e-4, rtol=1e-5)
