"""Loading a graph into ONNX Runtime."""

from __future__ import annotations

import pytest

from fastadasp.profiles.errors import ArtifactError, RequestError
from fastadasp.runtime.onnxruntime_session import OnnxRuntimeSession


def test_a_file_that_is_no_graph_is_named(tmp_path):
    path = tmp_path / "decode.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(ArtifactError, match=r"decode\.onnx: onnxruntime cannot load it"):
        OnnxRuntimeSession(path, {})


def test_an_unknown_provider_lists_those_of_this_build(tiny_artifact):
    with pytest.raises(RequestError, match=r"NoSuchProvider is not in this build.*CPUExecutionProvider"):
        OnnxRuntimeSession(tiny_artifact / "encoder.onnx", {}, providers=["NoSuchProvider"])
