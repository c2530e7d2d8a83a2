"""JSON is read within limits: no depth, number or text in it can surprise what follows."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastadasp.profiles.json_text import MAX_DEPTH, MOST_DIGITS, JsonError, read_json, read_object
from fuzzing import fuzz

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda of: st.lists(of) | st.dictionaries(st.text(), of),
)
BEYOND_JSON = {
    "NaN": '{"a": [NaN]}',
    "Infinity": "-Infinity",
    "a float beyond all": '{"a": 1e999}',
    "twice": '{"a": {"b": 1, "c": 2, "b": 3}}',
    "half a character": '{"a": [{"b": "x\\ud800"}]}',
    "half a character in a name": '{"a": {"\\udfff": 1}}',
}
SAID = [
    "holds NaN, which JSON does not know",
    "holds -Infinity, which JSON does not know",
    "holds 1e999, which is larger than any number",
    "has 'b' twice in one object",
    "a[0].b holds half of a surrogate pair",
    "a holds half of a surrogate pair",
]


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


def fault(text: str | bytes, *, lenient: bool = False) -> str:
    with pytest.raises(JsonError) as caught:
        read_json(text, lenient=lenient)
    return str(caught.value)


@given(content=ANY, lenient=st.booleans())
def test_json_is_read_as_python_reads_it(content: Any, lenient: bool) -> None:
    assert read_json(json.dumps(content), lenient=lenient) == content
    assert read_json(json.dumps(content, ensure_ascii=False).encode(), lenient=lenient) == content


@pytest.mark.parametrize("lenient", [True, False])
@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 999, 100_000])
def test_a_deep_nesting_is_refused(levels: int, lenient: bool) -> None:
    assert read_json(nested(MAX_DEPTH), lenient=lenient)
    for text in (nested(levels), '{"a":' * levels + "1" + "}" * levels, "[" * levels):
        found = fault(text, lenient=lenient)
        assert found == f"is nested deeper than {MAX_DEPTH} levels" or found.startswith("is no JSON: ")
    assert "nested" in fault(nested(levels), lenient=lenient)


@pytest.mark.parametrize("lenient", [True, False])
@pytest.mark.parametrize("number", ["7", "-7", "7.", "1e"])
def test_a_long_number_is_refused_before_it_is_computed(number: str, lenient: bool) -> None:
    assert read_json("7" * MOST_DIGITS, lenient=lenient) == int("7" * MOST_DIGITS)
    assert "digits; 1000 are the most" in fault(f'{{"a": {number}{"7" * 1_000_000}}}', lenient=lenient)


@pytest.mark.parametrize(("text", "said"), zip(BEYOND_JSON.values(), SAID, strict=True), ids=BEYOND_JSON)
def test_what_only_python_takes_is_refused_where_it_is_not_asked_for(text: str, said: str) -> None:
    assert said in fault(text)
    assert repr(read_json(text, lenient=True)) == repr(json.loads(text))


def test_what_is_no_json_is_told_with_its_position() -> None:
    assert fault(b"[1\xff]") == "is no text: byte 3 is not UTF-8"
    assert fault("[1,]") == "is no JSON: Expecting value at column 4"
    assert fault('{\n "a": }') == "is no JSON: Expecting value at line 2, column 7"
    with pytest.raises(JsonError, match=r"is \[1\], not an object"):
        read_object("[1]")


def test_many_names_that_stand_twice_are_found_soon() -> None:
    text = "{" + ",".join(f'"{i // 2}":0' for i in range(200_000)) + "}"
    assert fault(text) == "has '0' twice in one object"


@pytest.mark.fuzz
@fuzz(100)
@given(text=st.binary() | st.text() | ANY.map(json.dumps), lenient=st.booleans())
def test_whatever_stands_there_is_read_or_refused_in_plain_words(text: str | bytes, lenient: bool) -> None:
    with suppress(JsonError):
        json.dumps(read_json(text, lenient=lenient))
