"""Loading a graph into ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

from fastadasp.profiles.errors import ArtifactError, EngineError, RequestError
from fastadasp.runtime.onnxruntime.session import OnnxRuntimeSession


def test_a_file_that_is_no_graph_is_named(tmp_path):
    path = tmp_path / "decode.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(ArtifactError, match=r"decode\.onnx: onnxruntime cannot load it"):
        OnnxRuntimeSession(path, {})


def test_an_unknown_provider_lists_those_of_this_build(tiny_artifact):
    with pytest.raises(RequestError, match=r"NoSuchProvider is not in this build.*CPUExecutionProvider"):
        OnnxRuntimeSession(tiny_artifact / "encoder.onnx", {}, providers=["NoSuchProvider"])


def test_a_run_that_fails_names_graph_and_shapes(tiny_artifact):
    session = OnnxRuntimeSession(tiny_artifact / "encoder.onnx", {})
    with pytest.raises(EngineError, match=r"onnxruntime failed on mel \(1, 2\), .* Expected: 128"):
        session.run({"mel": np.zeros((1, 2), np.float32), "encoder_rows": np.ones(1, np.int64)})


def test_threads_do_not_wait_busily(tiny_artifact):
    session = OnnxRuntimeSession(tiny_artifact / "encoder.onnx", {}, threads=2)
    options = session._session.get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
