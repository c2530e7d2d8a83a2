import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

from fastadasp.profiles.errors import RequestError
from fastadasp.runtime.decoding.drive import drive, new_search
from fastadasp.runtime.decoding.options import ResolvedSearch
from fastadasp.runtime.decoding.scoring import TokenRules, ngram_ends
from fastadasp.runtime.decoding.search import Hypothesis

from .toy_decoders import Table, top_tokens

PROMPTS = 20
PAD = 0


class FullForward:
    """A decoder that runs a whole model on every row at every step and records how it is driven."""

    def __init__(self, model, prompt):
        self.model, self.rows, self.widths, self.counts = model, [list(prompt)], [], []

    def start(self, k):
        return self._top(k)

    def step(self, tokens, parents, k):
        self.rows = [
            [*self.rows[parent], token] for parent, token in zip(parents, tokens.tolist(), strict=True)
        ]
        return self._top(k)

    def _top(self, k):
        self.widths.append(k)
        self.counts.append(len(self.rows))
        with torch.no_grad():
            return top_tokens(self.model(torch.tensor(self.rows)).logits[:, -1].numpy(), k)


def generate(decoder, options, *, vocab_size, prompt_ids=()):
    return list(drive(new_search(options, vocab_size, prompt_ids), decoder))


def tiny_model(vocab_size):
    torch.set_num_threads(1)
    torch.manual_seed(7)
    config = Qwen2Config(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.35,
        attn_implementation="eager",
    )
    return Qwen2ForCausalLM(config).eval()


def random_prompts(vocab_size, count=PROMPTS):
    rng = np.random.default_rng(11)
    return [rng.integers(1, vocab_size, rng.integers(1, 9)).tolist() for _ in range(count)]


def likely_tokens(model, prompts):
    """Token ids, those with the largest mean probability first: as end tokens they come early and often."""
    with torch.no_grad():
        chances = [model(torch.tensor([prompt])).logits[0].softmax(-1).mean(0) for prompt in prompts]
    ids = torch.stack(chances).mean(0).argsort(descending=True).tolist()
    return [token for token in ids if token != PAD]


@pytest.fixture(scope="module")
def model():
    return tiny_model(vocab_size=80)


@pytest.fixture(scope="module")
def prompts():
    return random_prompts(80)


@pytest.fixture(scope="module")
def likely(model, prompts):
    return likely_tokens(model, prompts)


def transformers_answers(model, prompt, options):
    """What `generate` of transformers returns: [(tokens, ended by an end token, score or None)]."""
    config = GenerationConfig(
        do_sample=False,
        num_beams=options.num_beams,
        max_new_tokens=options.max_new_tokens,
        min_new_tokens=options.min_new_tokens,
        length_penalty=options.length_penalty if options.num_beams > 1 else None,
        early_stopping=options.early_stopping if options.num_beams > 1 else None,
        eos_token_id=list(options.end_tokens) or None,
        repetition_penalty=options.repetition_penalty,
        no_repeat_ngram_size=options.no_repeat_ngram_size,
        suppress_tokens=list(options.suppress_tokens) or None,
        begin_suppress_tokens=list(options.begin_suppress_tokens) or None,
        num_return_sequences=options.num_return_sequences,
        pad_token_id=PAD,
        return_dict_in_generate=True,
        output_scores=True,
    )
    model.generation_config = GenerationConfig()
    ids = torch.tensor([prompt])
    found = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
    scores = found.sequences_scores.tolist() if options.num_beams > 1 else [None]
    rows = found.sequences[:, len(prompt) :].tolist()
    return [(*until_end(row, options), score) for row, score in zip(rows, scores, strict=True)]


def until_end(row, options):
    ends = [i for i, token in enumerate(row) if token in options.end_tokens]
    return (tuple(row[: ends[0]]), True) if ends else (tuple(row), False)


def atol(options):
    """1e-4 on a sum of log-probabilities; a negative length penalty multiplies sum and rounding alike."""
    return 1e-4 * max(1.0, options.max_new_tokens**-options.length_penalty)


def assert_same(model, prompt, options):
    expected = transformers_answers(model, prompt, options)
    vocab_size = model.config.vocab_size
    found = generate(FullForward(model, prompt), options, vocab_size=vocab_size, prompt_ids=prompt)
    assert [(h.tokens, h.finished) for h in found] == [answer[:2] for answer in expected]
    if options.num_beams > 1:
        assert [h.score for h in found] == pytest.approx(
            [answer[2] for answer in expected], abs=atol(options)
        )
    return found


END_TOKENS = {"no end": [], "three ends": [0, 1, 9]}  # places in the list of likely tokens
PENALTIES = {
    "plain": {},
    "min_new_tokens": {"min_new_tokens": 4},
    "repetition_penalty": {"repetition_penalty": 1.3},
    "no_repeat_ngram_2": {"no_repeat_ngram_size": 2},
    "no_repeat_ngram_3": {"no_repeat_ngram_size": 3, "repetition_penalty": 1.3, "min_new_tokens": 3},
    "no_repeat_ngram_1": {"no_repeat_ngram_size": 1},
    "suppress": {"suppress_tokens": (0, 2, 3, 5, 8)},  # places in the list of likely tokens
    "begin_suppress": {"begin_suppress_tokens": (0, 1, 2, 3, 9)},
    "suppress both": {
        "suppress_tokens": tuple(range(20)),
        "begin_suppress_tokens": tuple(range(15, 40)),
        "repetition_penalty": 1.2,
    },
}


def end_tokens(likely, ends):
    return tuple(likely[place] for place in END_TOKENS[ends])


def penalties_of(likely, name):
    return {
        field: tuple(likely[place] for place in value) if isinstance(value, tuple) else value
        for field, value in PENALTIES[name].items()
    }


@pytest.mark.parametrize("penalties", PENALTIES)
@pytest.mark.parametrize("ends", END_TOKENS)
def test_greedy_equals_transformers(model, prompts, likely, ends, penalties):
    options = ResolvedSearch(
        max_new_tokens=12, eos_token_ids=end_tokens(likely, ends), **penalties_of(likely, penalties)
    )
    for prompt in prompts:
        assert_same(model, prompt, options)


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize("length_penalty", [-1.0, 0.0, 2.0])
@pytest.mark.parametrize("num_beams", [2, 5])
def test_beams_equal_transformers_for_each_way_to_stop(
    model, prompts, likely, num_beams, length_penalty, early_stopping
):
    options = ResolvedSearch(
        num_beams=num_beams,
        max_new_tokens=10,
        length_penalty=length_penalty,
        early_stopping=early_stopping,
        eos_token_ids=end_tokens(likely, "three ends"),
        num_return_sequences=num_beams,
    )
    for prompt in prompts:
        assert len(assert_same(model, prompt, options)) == num_beams


@pytest.mark.parametrize("penalties", PENALTIES)
@pytest.mark.parametrize("ends", END_TOKENS)
def test_beams_equal_transformers_for_each_penalty(model, prompts, likely, ends, penalties):
    options = ResolvedSearch(
        num_beams=3,
        max_new_tokens=9,
        eos_token_ids=end_tokens(likely, ends),
        num_return_sequences=2,
        **penalties_of(likely, penalties),
    )
    for prompt in prompts:
        assert_same(model, prompt, options)


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
def test_beams_equal_transformers_when_the_vocabulary_is_smaller_than_the_candidates(early_stopping):
    model, prompts = tiny_model(vocab_size=12), random_prompts(12)
    ends = tuple(likely_tokens(model, prompts)[:3])
    options = ResolvedSearch(
        num_beams=5,
        max_new_tokens=8,
        early_stopping=early_stopping,
        eos_token_ids=ends,
        repetition_penalty=1.2,
        num_return_sequences=5,
    )
    for prompt in prompts:
        assert_same(model, prompt, options)


@pytest.mark.parametrize("max_new_tokens", [1, 2])
def test_beams_equal_transformers_for_very_short_answers(model, prompts, likely, max_new_tokens):
    options = ResolvedSearch(
        num_beams=5,
        max_new_tokens=max_new_tokens,
        eos_token_ids=tuple(likely[:3]),
        num_return_sequences=5,
    )
    for prompt in prompts:
        assert_same(model, prompt, options)


def test_the_settings_that_are_compared_give_different_answers(model, prompts, likely):
    base = ResolvedSearch(
        num_beams=5, max_new_tokens=10, eos_token_ids=tuple(likely[:3]), num_return_sequences=5
    )
    changes = [{}, {"early_stopping": True}, {"early_stopping": "never"}, {"length_penalty": 2.0}]
    answers = [
        [generate(FullForward(model, p), replace(base, **change), vocab_size=80) for p in prompts]
        for change in changes
    ]
    for one, other in itertools.combinations(answers, 2):
        assert one != other
    lengths = [{len(h.tokens) for h in answer} for answer in answers[0]]
    assert sum(len(distinct) > 1 for distinct in lengths) > PROMPTS / 2


def test_a_search_asks_for_no_more_than_it_needs(model, prompts):
    options = ResolvedSearch(num_beams=5, max_new_tokens=6, eos_token_ids=(1, 2))
    decoder = FullForward(model, prompts[0])
    generate(decoder, options, vocab_size=80, prompt_ids=prompts[0])
    assert decoder.widths == [7] * 6
    assert decoder.counts == [1, 5, 5, 5, 5, 5]


def test_never_stopping_early_weighs_live_beams_at_their_present_length_if_short_answers_are_favoured():
    chances = np.full((100, 3, 3), 1 / 3)
    chances[0] = [0.05, 0.90, 0.05]
    chances[1, 1] = [0.02, 0.96, 0.02]
    chances[2, 1] = [0.90, 0.05, 0.05]
    options = ResolvedSearch(
        num_beams=2, max_new_tokens=100, length_penalty=-1.0, early_stopping="never", eos_token_ids=(0,)
    )
    (found,) = generate(Table(np.log(chances)), options, vocab_size=3)
    assert found.tokens == (1, 1)


@st.composite
def tables(draw, steps=4):
    vocab_size = draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return rng.normal(0, draw(st.sampled_from([0.5, 3.0])), (steps, vocab_size, vocab_size))


def every_hypothesis(table, options):
    """All hypotheses of a table decoder with their scores, best first, by enumeration."""
    log_probs = table - np.logaddexp.reduce(table, axis=-1, keepdims=True)
    found = []

    def walk(tokens, total):
        if tokens and (tokens[-1] in options.end_tokens or len(tokens) == options.max_new_tokens):
            found.append((total / len(tokens) ** options.length_penalty, tokens))
            return
        for token in range(table.shape[-1]):
            walk((*tokens, token), total + log_probs[len(tokens), tokens[-1] if tokens else 0, token])

    walk((), 0.0)
    return sorted(found, reverse=True)


@settings(max_examples=60)
@given(tables(steps=3), st.sampled_from([-1.0, 0.0, 0.7, 1.0]), st.integers(0, 2))
def test_beams_enough_for_every_sequence_find_them_all_in_order(table, length_penalty, ends):
    vocab_size = table.shape[-1]
    beams = vocab_size**3
    options = ResolvedSearch(
        num_beams=beams,
        max_new_tokens=3,
        length_penalty=length_penalty,
        eos_token_ids=tuple(range(min(ends, vocab_size - 1))),
        num_return_sequences=beams,
        early_stopping="never",
    )
    found = generate(Table(table), options, vocab_size=vocab_size)
    best = every_hypothesis(table, options)
    assert [h.score for h in found] == pytest.approx([score for score, _ in best], abs=1e-4)
    assert found[0].tokens == until_end(best[0][1], options)[0]


class WholeVocabulary(Table):
    """The same decoder, which returns every token however few are asked for."""

    def start(self, k):
        return super().start(max(k, self.vocab_size))

    def step(self, tokens, parents, k):
        return super().step(tokens, parents, max(k, self.vocab_size))


@settings(max_examples=150)
@given(
    st.integers(0, 2**32),
    st.integers(1, 4),
    st.lists(st.integers(0, 15), max_size=8),
    st.sampled_from([1.0, 1.3, 4.0]),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_penalties_on_the_best_tokens_equal_penalties_on_the_whole_vocabulary(
    seed, num_beams, prompt, penalty, size, least
):
    table = np.random.default_rng(seed).normal(0, 2, (6, 12, 12))
    options = ResolvedSearch(
        num_beams=num_beams,
        max_new_tokens=6,
        min_new_tokens=least,
        eos_token_ids=(3, 5),
        repetition_penalty=penalty,
        no_repeat_ngram_size=size,
        num_return_sequences=num_beams,
    )
    found, whole = [answers_or_error(kind(table), options, prompt) for kind in (Table, WholeVocabulary)]
    assert found == whole


def answers_or_error(decoder, options, prompt):
    try:
        return generate(decoder, options, vocab_size=decoder.vocab_size, prompt_ids=prompt)
    except RequestError as error:
        return str(error)


def test_the_greedy_score_is_the_models_log_probability_over_the_length():
    table = np.log([[[0.5, 0.3, 0.2]] * 3, [[0.1, 0.8, 0.1]] * 3])
    options = ResolvedSearch(max_new_tokens=5, eos_token_ids=(1,), length_penalty=2.0)
    (found,) = generate(Table(table), options, vocab_size=3)
    assert found == Hypothesis((0,), "stop", pytest.approx((math.log(0.5) + math.log(0.8)) / 4, abs=1e-6))


@pytest.mark.parametrize("num_beams", [1, 3])
def test_ties_go_to_the_lower_beam_and_then_to_the_lower_token(num_beams):
    options = ResolvedSearch(num_beams=num_beams, max_new_tokens=2, num_return_sequences=num_beams)
    found = generate(Table(np.zeros((2, 4, 4))), options, vocab_size=4)
    assert [h.tokens for h in found] == [(0, 0), (0, 1), (0, 2)][:num_beams]


def test_ties_that_a_penalty_makes_go_to_the_lower_token():
    options = ResolvedSearch(max_new_tokens=1, repetition_penalty=2.0)
    table = [[[-2.0, -8.0, -1.0]] * 3]
    (found,) = generate(Table(table), options, vocab_size=3, prompt_ids=[2])
    assert found.tokens == (0,)


def test_fewer_hypotheses_come_back_when_the_vocabulary_has_no_more():
    options = ResolvedSearch(num_beams=5, max_new_tokens=2, eos_token_ids=(0,), num_return_sequences=5)
    found = generate(Table(np.zeros((2, 2, 2))), options, vocab_size=2)
    assert sorted(h.tokens for h in found) == [(), (1,), (1, 1)]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("step", [0, 2])
def test_logits_that_are_not_finite_are_refused(num_beams, step, value):
    table = np.zeros((4, 5, 5))
    table[step, :, 3] = value
    options = ResolvedSearch(num_beams=num_beams, max_new_tokens=4)
    with pytest.raises(RequestError, match=f"after {step} generated tokens are not finite"):
        generate(Table(table), options, vocab_size=5)


@pytest.mark.parametrize("num_beams", [1, 2])
def test_a_search_whose_tokens_are_all_banned_is_refused(num_beams):
    options = ResolvedSearch(num_beams=num_beams, max_new_tokens=8, no_repeat_ngram_size=1)
    with pytest.raises(RequestError, match=r"after 3 generated ones: raise no_repeat_ngram_size \(now 1\)"):
        generate(Table(np.zeros((8, 3, 3))), options, vocab_size=3)


def test_a_token_of_zero_probability_is_never_chosen():
    table = np.zeros((3, 3, 3))
    table[:, :, 1] = -np.inf
    found = generate(
        Table(table), ResolvedSearch(num_beams=4, max_new_tokens=3, num_return_sequences=4), vocab_size=3
    )
    assert len(found) == 4
    assert all(1 not in h.tokens for h in found)


@given(st.lists(st.integers(0, 3), max_size=12), st.integers(1, 4))
def test_ngram_ends_are_the_tokens_that_would_repeat_an_ngram(history, size):
    seen = [tuple(history[i : i + size]) for i in range(len(history) - size + 1)]
    repeats = {token for token in range(4) if (*history, token)[-size:] in seen and len(history) >= size - 1}
    assert set(ngram_ends(np.array(history, np.int64), size).tolist()) == repeats


def test_history_outside_the_vocabulary_lowers_nothing():
    options = ResolvedSearch(
        repetition_penalty=1.5, no_repeat_ngram_size=1, eos_token_ids=(99,), min_new_tokens=1
    )
    lowered = TokenRules(options, vocab_size=10, prompt_ids=[3, 3, 50, -100]).lowered_by((4,))
    assert lowered.penalised.tolist() == lowered.banned.tolist() == [3, 4]
    assert len(lowered) == 2


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"num_beams": 0}, "num_beams is 0: give a whole number of at least 1"),
        ({"num_beams": True}, "num_beams is True"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"max_new_tokens": 2.5}, "max_new_tokens is 2.5"),
        ({"min_new_tokens": -1}, "min_new_tokens is -1"),
        ({"min_new_tokens": 9, "max_new_tokens": 8}, "min_new_tokens is 9 and max_new_tokens 8"),
        ({"num_return_sequences": 2}, "num_return_sequences is 2 and num_beams 1"),
        ({"length_penalty": math.nan}, "length_penalty is nan"),
        ({"length_penalty": -500.0}, "length_penalty is -500.0: give a number nearer to 0"),
        ({"early_stopping": "always"}, "early_stopping is 'always': give False, True or 'never'"),
        ({"early_stopping": 1}, "early_stopping is 1"),
        ({"eos_token_ids": 3}, "eos_token_ids is 3: give a tuple"),
        ({"eos_token_ids": (-1,)}, "eos_token_ids is (-1,)"),
        ({"repetition_penalty": 0.9}, "repetition_penalty is 0.9: give a number from 1.0 to 1e+06"),
        ({"no_repeat_ngram_size": "2"}, "no_repeat_ngram_size is '2'"),
    ],
)
def test_an_option_out_of_range_is_named(change, fault):
    with pytest.raises(RequestError) as caught:
        ResolvedSearch(**change)
    assert str(caught.value).startswith(fault)


def test_all_faults_of_the_options_are_told_at_once():
    with pytest.raises(RequestError) as caught:
        ResolvedSearch(num_beams=0, length_penalty=math.inf, early_stopping="no", repetition_penalty=0.5)
    assert str(caught.value).count(";") == 3
