"""Options that a request leaves out are decided by its artifact, and what neither says by the library."""

import pytest

from fastadasp.profiles.errors import RequestError
from fastadasp.runtime.decoding.options import ResolvedSearch, SearchOptions

ARTIFACT = SearchOptions(num_beams=4, repetition_penalty=1.3, suppress_tokens=(7,), min_new_tokens=3)


def test_without_a_word_a_search_is_greedy_as_in_transformers():
    assert SearchOptions().resolved() == ResolvedSearch()
    assert SearchOptions().given == {}
    assert ResolvedSearch().resolved(ARTIFACT) == ResolvedSearch()


def test_what_is_left_out_is_the_artifacts():
    found = SearchOptions(num_beams=2).resolved(ARTIFACT)
    expected = ResolvedSearch(num_beams=2, repetition_penalty=1.3, suppress_tokens=(7,), min_new_tokens=3)
    assert found == expected


@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 1},
        {"repetition_penalty": 1.0},
        {"suppress_tokens": ()},
        {"min_new_tokens": 0},
    ],
)
def test_a_value_that_is_plain_is_no_value_left_out(options):
    (name,) = options
    assert getattr(SearchOptions(**options).resolved(ARTIFACT), name) == options[name]


def test_options_that_exclude_each_other_are_found_when_they_meet():
    with pytest.raises(RequestError, match="min_new_tokens is 3 and max_new_tokens 2"):
        SearchOptions(max_new_tokens=2).resolved(ARTIFACT)


@pytest.mark.parametrize("name", ["eos_token_ids", "suppress_tokens", "begin_suppress_tokens"])
@pytest.mark.parametrize("ids", [[1], (1.5,), (True,), (-1,), "1", (10**30,), 3])
def test_what_is_no_tuple_of_ids_is_refused(name, ids):
    with pytest.raises(RequestError, match=f"{name} is .*: give a tuple of token ids"):
        SearchOptions(**{name: ids})
