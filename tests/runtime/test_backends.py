"""Backends by name, and the options that belong to each."""

from __future__ import annotations

import json
import pickle
from dataclasses import fields

import pytest

from fastadasp.profiles.errors import RequestError
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.backends import BACKENDS
from fastadasp.runtime.onnxruntime.options import OnnxRuntimeOptions
from fastadasp.runtime.runtime_options import BackendKeywords, RuntimeOptions, runtime_options
from fastadasp.runtime.tensorrt.options import TensorRTOptions


def test_keywords_become_the_options_of_the_backend():
    found = runtime_options(threads=2, providers=["A", "B"], prepack=False)
    assert found == RuntimeOptions("onnxruntime", OnnxRuntimeOptions(2, ("A", "B"), False))
    assert runtime_options("tensorrt") == RuntimeOptions("tensorrt", TensorRTOptions())
    assert runtime_options() == RuntimeOptions()


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_runs_without_options_and_can_be_handed_to_a_process(backend):
    found = runtime_options(backend)
    assert pickle.loads(pickle.dumps(found)) == found
    assert json.loads(json.dumps(found.recorded())) == found.recorded()
    assert found.recorded()["backend"] == backend


@pytest.mark.parametrize(
    ("backend", "options", "message"),
    [
        ("tensorrt", {"threads": 2}, r"threads: no option of the backend tensorrt, which has none; leave it"),
        (
            "onnxruntime",
            {"thread": 2},
            r"thread: .*, which has threads, providers, prepack \(--lean\); leave",
        ),
        ("onnxruntime", {"threads": -1}, "threads is -1: give a whole number of at least 0"),
        (
            "abacus",
            {"threads": 1},
            "backend 'abacus' is unknown; choose onnxruntime, onnxruntime-cuda, openvino, tensorrt",
        ),
    ],
)
def test_options_that_a_backend_lacks_are_refused_with_those_that_it_has(backend, options, message):
    with pytest.raises(RequestError, match=message):
        runtime_options(backend, **options)
    with pytest.raises(RequestError, match=message):
        SpeechLM.load("no-artifact", backend=backend, **options)


def test_options_of_another_backend_are_refused():
    with pytest.raises(RequestError, match="tensorrt takes TensorRTOptions, not OnnxRuntimeOptions"):
        RuntimeOptions("tensorrt", OnnxRuntimeOptions())


def test_a_share_of_the_cores_is_for_backends_that_compute_on_them():
    assert runtime_options().sharing(3).threads == 3
    assert runtime_options(threads=2, prepack=False).sharing(3) == runtime_options(threads=2, prepack=False)
    assert runtime_options("tensorrt").sharing(3) == runtime_options("tensorrt")
    assert runtime_options("tensorrt").threads == 0


def test_result_files_keep_what_an_answer_depends_on():
    recorded = {"backend": "onnxruntime", "providers": ["A"], "lean": True}
    assert runtime_options(threads=4, providers=("A",), prepack=False).recorded() == recorded
    assert runtime_options("tensorrt").recorded() == {"backend": "tensorrt"}


def test_the_typed_keywords_are_the_options_of_all_backends():
    every = {field.name for backend in BACKENDS.values() for field in fields(backend.options)}
    assert every == set(BackendKeywords.__annotations__)
