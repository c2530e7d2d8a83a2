"""A safetensors header is accepted exactly where the safetensors library accepts it, and read alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open

from fastadasp.export.checkpoint.checkpoint import read_header
from fastadasp.profiles.errors import CheckpointError
from fuzzing import fuzz

WHOLE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
SECOND = {"dtype": "F16", "shape": [2, 2], "data_offsets": [8, 16]}
DAMAGED = {
    "overlap": {"a": WHOLE, "b": WHOLE},
    "partial overlap": {"a": WHOLE, "b": SECOND | {"data_offsets": [4, 12]}},
    "hole": {"a": WHOLE, "b": SECOND | {"data_offsets": [12, 20]}},
    "shifted": {"a": WHOLE | {"data_offsets": [8, 16]}},
    "wrong size": {"a": WHOLE | {"shape": [3]}, "b": SECOND},
    "swapped": {"a": WHOLE | {"data_offsets": [8, 0]}},
    "overflow": {"a": WHOLE | {"shape": [2**40, 2**40]}},
    "400 digits": {"a": WHOLE | {"shape": [10**400]}},
    "negative": {"a": WHOLE | {"shape": [-2]}},
    "unknown type": {"a": WHOLE | {"dtype": "F5"}},
    "a number as text": {"a": WHOLE, "__metadata__": {"format": 1}, "b": SECOND},
}


def write(path: Path, header: bytes, data: bytes, length: int | None = None) -> Path:
    path.write_bytes((len(header) if length is None else length).to_bytes(8, "little") + header + data)
    return path


def library(path: Path) -> dict[str, Any] | None:
    """What the library reads: name -> dtype, shape, bytes; None where it refuses."""
    try:
        with safe_open(path, "np") as content:
            slices = {name: content.get_slice(name) for name in content.keys()}  # noqa: SIM118 (no mapping)
            return {name: (each.get_dtype(), tuple(each.get_shape())) for name, each in slices.items()}
    except SafetensorError:
        return None


def ours(path: Path) -> dict[str, Any] | None:
    try:
        return {name: (tensor.dtype, tensor.shape) for name, tensor in read_header(path).items()}
    except CheckpointError as error:
        return None if str(path) in str(error) and "copy it again" in str(error) else {"words": str(error)}


@pytest.mark.parametrize("header", DAMAGED.values(), ids=DAMAGED)
def test_what_the_library_refuses_is_refused(tmp_path: Path, header: dict[str, Any]) -> None:
    size = max(entry["data_offsets"][1] for entry in header.values() if "data_offsets" in entry)
    path = write(tmp_path / "x.safetensors", json.dumps(header).encode(), bytes(size))
    assert library(path) is None
    with pytest.raises(CheckpointError, match=r"x\.safetensors: .*; copy it again"):
        read_header(path)


@pytest.mark.parametrize("length", [0, 7, 10**8 + 1, 2**63, 2**64 - 1])
def test_a_header_of_a_wrong_length_is_refused(tmp_path: Path, length: int) -> None:
    path = write(tmp_path / "x.safetensors", json.dumps({"a": WHOLE}).encode(), bytes(8), length)
    assert library(path) is None
    assert ours(path) is None


def test_names_that_stand_twice_are_taken_as_the_library_takes_them(tmp_path: Path) -> None:
    whole = json.dumps(WHOLE).encode()
    path = write(tmp_path / "x.safetensors", b'{"a":%s,"a":%s}' % (whole, whole), bytes(8))
    assert ours(path) == library(path)
    twice = b'{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    path = write(tmp_path / "y.safetensors", twice, bytes(8))
    assert library(path) is None
    assert ours(path) is None


def test_values_lie_where_the_header_says(tmp_path: Path) -> None:
    """Whatever the order of names, and in the rarer form that the library takes, too."""
    header = {"b": ["F32", [2], [8, 16]], "a": {"dtype": {"F32": None}, "shape": [2], "data_offsets": [0, 8]}}
    values = np.arange(4, dtype=np.float32)
    path = write(tmp_path / "x.safetensors", json.dumps(header).encode(), values.tobytes())
    tensors = read_header(path)
    np.testing.assert_array_equal(tensors["a"].read(), [0, 1])
    np.testing.assert_array_equal(tensors["b"].read(), [2, 3])


numbers = st.one_of(
    st.integers(0, 16), st.sampled_from([-1, 2**31, 2**63, 2**64, 10**400, 1.0, None, True, "1"])
)
entries = st.one_of(
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "F16", "BF16", "U8", "F4", "F8_E4M3", "I64", "Q", None]),
            "shape": st.lists(numbers, max_size=2),
            "data_offsets": st.lists(numbers, min_size=1, max_size=3),
        },
        optional={"more": st.recursive(numbers, st.lists, max_leaves=3)},
    ),
    numbers,
    st.lists(numbers, max_size=3),
)
headers = st.dictionaries(st.sampled_from(["a", "b", "__metadata__", ""]), entries, max_size=3)


@st.composite
def valid_headers(draw: st.DrawFn) -> dict[str, Any]:
    header, end = {}, 0
    for name in draw(st.permutations(["a", "b", "c"])):
        rows = draw(st.integers(0, 4))
        header[name] = {"dtype": "F16", "shape": [rows, 2], "data_offsets": [end, end + 4 * rows]}
        end += 4 * rows
    return header


@pytest.mark.fuzz
@fuzz(300)
@given(
    header=st.one_of(headers, valid_headers()),
    size=st.integers(0, 64),
    change=st.one_of(st.none(), st.tuples(st.integers(0, 400), st.integers(0, 255))),
    exact=st.booleans(),
)
def test_any_header_is_judged_as_the_library_judges_it(
    tmp_path_factory: pytest.TempPathFactory,
    header: dict[str, Any],
    size: int,
    change: tuple[int, int] | None,
    exact: bool,
) -> None:
    text = bytearray(json.dumps(header).encode())
    if change and change[0] < len(text):
        text[change[0]] = change[1]
    if exact:
        ends = [entry["data_offsets"] for entry in header.values() if isinstance(entry, dict)]
        size = max((end[-1] for end in ends if type(end[-1]) is int and 0 <= end[-1] < 100), default=0)
    path = write(tmp_path_factory.getbasetemp() / "any.safetensors", bytes(text), bytes(size))
    assert ours(path) == library(path)
