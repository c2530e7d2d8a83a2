"""Searches that are pushed: by one decoder, by a loop that serves many at once, or copied on the way."""

import copy
import gc
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastadasp.profiles.errors import RequestError
from fastadasp.runtime.decoding.drive import drive, new_search, steps
from fastadasp.runtime.decoding.options import SearchOptions
from fastadasp.runtime.decoding.search import TopTokens

from .toy_decoders import Histories, OneOf, Table

VOCAB, PROMPT = 14, (2, 5, 2)


@st.composite
def search_options(draw):
    num_beams = draw(st.integers(1, 4))
    max_new_tokens = draw(st.integers(1, 8))
    return SearchOptions(
        num_beams=num_beams,
        max_new_tokens=max_new_tokens,
        min_new_tokens=draw(st.integers(0, max_new_tokens)),
        length_penalty=draw(st.sampled_from([-1.0, 0.0, 1.0, 2.0])),
        early_stopping=draw(st.sampled_from([False, True, "never"])),
        eos_token_ids=draw(st.sampled_from([(), (3,), (3, 5, 8)])),
        repetition_penalty=draw(st.sampled_from([1.0, 1.4])),
        no_repeat_ngram_size=draw(st.integers(0, 2)),
        num_return_sequences=draw(st.integers(1, num_beams)),
    )


def outcome(search, decoder):
    """What a search comes to, and why; or the fault that it ends with."""
    try:
        return drive(search, decoder), search.end_reason
    except RequestError as error:
        return str(error)


def outcomes_of_turns(searches, decoder, rng):
    """What the searches come to if each turn serves some of them, drawn anew and in any order."""
    faults = {}
    while live := [name for name, search in searches.items() if search.request is not None]:
        chosen = rng.permutation(live)[: rng.integers(1, len(live) + 1)].tolist()
        tops = decoder.score({name: searches[name].request for name in chosen})
        for name in rng.permutation(chosen).tolist():
            try:
                searches[name].advance(tops[name])
            except RequestError as error:
                faults[name] = str(error)
    return {
        name: faults.get(name, (search.hypotheses, search.end_reason)) for name, search in searches.items()
    }


@settings(max_examples=100)
@given(st.integers(0, 2**32), st.lists(search_options(), min_size=1, max_size=8))
def test_searches_that_take_turns_find_what_each_finds_alone(seed, several):
    searches = {name: new_search(options, VOCAB, PROMPT) for name, options in enumerate(several)}
    found = outcomes_of_turns(searches, Histories(seed, VOCAB), np.random.default_rng(seed))
    for name, options in enumerate(several):
        alone = outcome(new_search(options, VOCAB, PROMPT), OneOf(Histories(seed, VOCAB)))
        assert found[name] == alone


@settings(max_examples=40)
@given(st.integers(0, 2**32), search_options(), st.integers(0, 4))
def test_a_search_that_is_copied_on_the_way_ends_as_the_other(seed, options, turns):
    search, decoder = new_search(options, VOCAB, PROMPT), OneOf(Histories(seed, VOCAB))
    try:
        for _ in zip(range(turns), steps(search, decoder), strict=False):
            pass
    except RequestError:
        return
    copies = copy.deepcopy(search), copy.deepcopy(decoder)
    assert outcome(*copies) == outcome(search, decoder)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_search_holds_no_decoder(num_beams):
    search, decoder = (
        new_search(SearchOptions(num_beams=num_beams), VOCAB),
        Table(np.zeros((9, VOCAB, VOCAB))),
    )
    driving = steps(search, decoder)
    next(driving), next(driving)
    seen = weakref.ref(decoder)
    del driving, decoder
    gc.collect()
    assert seen() is None
    assert search.request is not None


@pytest.mark.parametrize("num_beams", [1, 3])
def test_the_first_request_is_for_the_prompt_and_each_other_one_for_a_row_a_live_beam(num_beams):
    search = new_search(SearchOptions(num_beams=num_beams, max_new_tokens=3), VOCAB)
    first, decoder = search.request, Histories(0, VOCAB)
    assert first.is_prompt
    assert first.k == num_beams
    search.advance(decoder.score({0: first})[0])
    assert not search.request.is_prompt
    assert len(search.request.tokens) == len(search.request.parents) == num_beams
    assert search.request.parents.tolist() == [0] * num_beams


def test_a_search_is_driven_no_further_than_its_steps_are_read():
    decoder = Table(np.zeros((9, 2, 2)))
    search = new_search(SearchOptions(max_new_tokens=9), vocab_size=2)
    driving = steps(search, decoder)
    next(driving), next(driving)
    assert search.tokens == (0, 0)
    assert decoder.position == 1


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from([1.0, 1.3]), st.integers(0, 1))
def test_the_tokens_of_a_greedy_search_grow_to_those_of_its_answer(seed, penalty, ends):
    options = SearchOptions(max_new_tokens=4, eos_token_ids=(0,) * ends, repetition_penalty=penalty)
    search, seen = new_search(options, 3, prompt_ids=[1]), [()]
    for _ in steps(search, OneOf(Histories(seed, 3))):
        assert search.tokens[: len(seen[-1])] == seen[-1]
        seen.append(search.tokens)
    (answer,) = search.hypotheses
    assert seen[-1] == answer.tokens
    assert answer.finished == (len(answer.tokens) < 4)


UNIFORM = np.zeros((9, 3, 3))
BEST_ENDS = np.tile([3.0, 1.0, 0.0], (9, 3, 1))
REASONS = {
    "an end token is best": ({"num_beams": 1}, BEST_ENDS, "stop", {"stop"}),
    "greedy search meets its limit": (
        {"num_beams": 1, "eos_token_ids": ()},
        UNIFORM,
        "length",
        {"length"},
    ),
    "enough beams have ended": ({"num_beams": 2, "early_stopping": True}, BEST_ENDS, "stop", {"stop"}),
    "no live beam can win": ({"num_beams": 2, "length_penalty": 0.0}, BEST_ENDS, "stop", {"stop"}),
    "beams meet their limit": ({"num_beams": 4, "max_new_tokens": 2}, UNIFORM, "length", {"stop", "length"}),
    "no beam lives on": ({"num_beams": 9, "no_repeat_ngram_size": 1}, UNIFORM, "exhausted", {"stop"}),
}


@pytest.mark.parametrize("case", REASONS)
def test_a_search_and_its_answers_say_why_they_ended(case):
    change, table, reason, of_answers = REASONS[case]
    options = {"max_new_tokens": 5, "eos_token_ids": (0,), **change}
    options["num_return_sequences"] = options["num_beams"]
    search = new_search(SearchOptions(**options), vocab_size=3)
    assert search.end_reason is None
    assert not search.hypotheses
    found = drive(search, Table(table))
    assert search.request is None
    assert search.end_reason == reason
    assert {hypothesis.finish_reason for hypothesis in found} == of_answers
    assert [hypothesis.finished for hypothesis in found] == [h.finish_reason == "stop" for h in found]


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_search_that_failed_is_over(num_beams):
    search = new_search(SearchOptions(num_beams=num_beams), vocab_size=3)
    with pytest.raises(RequestError):
        drive(search, Table(np.full((1, 3, 3), np.nan)))
    assert (search.request, search.hypotheses, search.end_reason) == (None, (), None)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_scores_of_other_rows_than_were_asked_for_are_noticed(num_beams):
    decoder = Table(np.zeros((9, VOCAB, VOCAB)))
    decoder.last = np.zeros(2, int)
    with pytest.raises(AssertionError, match="1 rows were asked for, 2 came"):
        drive(new_search(SearchOptions(num_beams=num_beams), VOCAB), decoder)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_search_asks_for_as_many_more_tokens_as_it_suppresses(num_beams):
    options = SearchOptions(
        num_beams=num_beams, suppress_tokens=(1, 2, 10**6), begin_suppress_tokens=(2, 3, 4)
    )
    search = new_search(options, VOCAB)
    assert search.request is not None
    assert search.request.k == num_beams + 4
    ids = np.arange(search.request.k)[None]
    search.advance(TopTokens(-ids.astype(np.float32), ids, np.zeros(1, np.float32)))
    assert search.request is not None
    assert search.request.k == num_beams + 2


def test_a_search_without_a_token_says_that_some_are_suppressed():
    search = new_search(SearchOptions(suppress_tokens=(0, 1, 2)), vocab_size=3)
    with pytest.raises(RequestError, match=r"every token is banned .*, or suppress fewer tokens"):
        search.advance(TopTokens(np.zeros((1, 3), np.float32), np.arange(3)[None], np.zeros(1, np.float32)))
