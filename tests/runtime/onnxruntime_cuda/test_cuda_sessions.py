"""Graphs for the CUDA provider, run on the CPU by the very sessions that run them on a device."""

from __future__ import annotations

import logging
import threading
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from conftest import OWN_PROFILE, noise
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import load_profile
from fastadasp.profiles import signature as sig
from fastadasp.profiles.errors import (
    ArtifactError,
    DependencyError,
    EngineError,
    RequestCancelled,
    RequestError,
)
from fastadasp.runtime import Cancellation, SpeechLM
from fastadasp.runtime.artifact.artifact import open_artifact
from fastadasp.runtime.onnxruntime_cuda import sessions as cuda_sessions
from fastadasp.runtime.onnxruntime_cuda.captured import CapturedSteps
from fastadasp.runtime.onnxruntime_cuda.options import OnnxRuntimeCudaOptions
from fastadasp.runtime.onnxruntime_cuda.provider import CUDA_PROVIDER, check_placement, providers
from fastadasp.runtime.onnxruntime_cuda.session import OnnxRuntimeCudaSession, Pool
from fastadasp.runtime.onnxruntime_cuda.values import TYPES, on_device, on_host, read
from fastadasp.runtime.runtime_options import RuntimeOptions
from torch_wavllm import TorchWavLLM

BOTH = "onnxruntime", "onnxruntime-cuda"
HAS_CUDA = CUDA_PROVIDER in onnxruntime.get_available_providers()
ON_CPU = OnnxRuntimeCudaOptions("cpu")


def artifact_of(checkpoint, folder, precision):
    own = folder / "profiles"
    own.mkdir()
    (own / "own-30.toml").write_text(OWN_PROFILE, "utf-8")
    profiles = tuple(load_profile(name, (own,)) for name in ("full", "own-30"))
    options = BuildOptions(profiles, weights="copy", targets=BOTH, precision=precision)
    build(checkpoint, folder / "artifact", options)
    return folder / "artifact"


@pytest.fixture(scope="module")
def artifacts(tiny_checkpoint, tmp_path_factory):
    """Of both targets, by the precision of that for CUDA."""
    return {
        precision: artifact_of(tiny_checkpoint, tmp_path_factory.mktemp(precision), precision)
        for precision in ("fp32", "fp16", "bf16")
    }


@pytest.fixture(scope="module")
def sessions(artifacts):
    with SpeechLM.load(artifacts["fp32"], backend="onnxruntime-cuda", device="cpu") as model:
        yield model._loaded.sessions


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("profile", ["full", "own-30"])
@pytest.mark.parametrize("beams", [1, 3])
def test_answers_are_those_of_the_other_graphs(artifacts, precision, profile, beams):
    """Seventy tokens are more rows than the first pool has room for."""
    plain, cuda = (
        SpeechLM.load(artifacts[precision], profile, backend=backend, **device).generate(
            noise(3.0), "hello", num_beams=beams, max_new_tokens=70, min_new_tokens=70
        )
        for backend, device in zip(BOTH, ({"threads": 1}, {"device": "cpu"}), strict=True)
    )
    assert cuda.prefix_lengths == plain.prefix_lengths
    assert [it.tokens for it in cuda.hypotheses] == [it.tokens for it in plain.hypotheses]
    atol = {"fp32": 1e-4, "fp16": 5e-3}[precision]
    for ours, theirs in zip(cuda.hypotheses, plain.hypotheses, strict=True):
        assert ours.score == pytest.approx(theirs.score, abs=atol)


def test_weights_of_16_bits_are_there_once_beside_those_of_other_targets(artifacts):
    opened = open_artifact(artifacts["bf16"])
    files = [name for name in opened.manifest.files if name.startswith("weights/")]
    assert sorted(files) == ["weights/bf16.safetensors", "weights/model.safetensors"]
    graphs = opened.graphs("onnxruntime-cuda")
    assert (graphs.precision, graphs.decode) == ("bf16", "onnxruntime-cuda.decode.onnx")
    places = opened.weights(graphs)
    assert {place.precision for table in (places.encoder, places.decoder) for place in table.values()} == {
        "bf16"
    }
    half, whole = (artifacts["bf16"] / name for name in sorted(files))
    assert half.stat().st_size < 0.6 * whole.stat().st_size


def step_inputs(dims, rows, prefix=9):
    """A step of two beams, whose pool has so many rows, all of which both see."""
    rng = np.random.default_rng(0)
    inputs = {
        sig.TOKEN_IDS: np.array([3, 4]),
        sig.STEP: np.array([1]),
        sig.POOL_MASK: np.ones((2, rows + 2), np.bool_),
        sig.NUM_CANDIDATES: np.array([2]),
    }
    for layer in range(dims.num_layers):
        for name, count in zip(sig.cache_names(layer), (prefix, prefix, rows, rows), strict=True):
            shape = dims.num_kv_heads, count, dims.head_dim
            inputs[name] = rng.standard_normal(shape).astype(np.float32)
    return inputs


def test_a_step_writes_into_the_memory_of_its_pool_until_that_is_full(sessions, artifacts):
    dims = open_artifact(artifacts["fp32"]).manifest.decoder.dims
    inputs = step_inputs(dims, rows=0)
    places, capacities = [], []
    for step in range(33):
        outputs = sessions.decode.run(inputs)
        name = sig.pool_key(0)
        pool = outputs[sig.grown(name)]
        places.append(pool.buffer.data_ptr())
        capacities.append(pool.capacity)
        assert sessions.decode.rows_of(pool) == pool.rows == 2 * (step + 1)
        for layer in range(dims.num_layers):
            for cache in sig.cache_names(layer)[2:]:
                inputs[cache] = outputs[sig.grown(cache)]
        inputs[sig.POOL_MASK] = np.ones((2, pool.rows + 2), np.bool_)
    assert capacities == [64] * 32 + [128]
    assert len(set(places[:32])) == 1


def test_the_functions_of_a_session(sessions, artifacts):
    dims = open_artifact(artifacts["fp32"]).manifest.decoder.dims
    inputs, decode = step_inputs(dims, rows=3), sessions.decode
    assert decode.number_bytes == 4
    outputs = decode.run(inputs)
    name = sig.pool_value(1)
    pool = outputs[sig.grown(name)]
    assert isinstance(pool, Pool)
    rows = decode.read(pool)
    assert rows.shape == (dims.num_kv_heads, 5, dims.head_dim)
    np.testing.assert_array_equal(rows[:, :3], inputs[name])
    assert decode.read(outputs[sig.TOP_LOGITS]).shape == (2, 2)


def test_steps_to_be_captured_have_buffers_of_their_own(sessions, artifacts):
    """On the CPU, which captures nothing: buffers are filled, kept for steps of a kind, and read."""
    dims, decode = open_artifact(artifacts["fp32"]).manifest.decoder.dims, sessions.decode
    captured = CapturedSteps(decode._session, decode._types, ON_CPU)
    inputs, _ = decode._with_room(step_inputs(dims, rows=0))
    pools = {sig.grown(name): inputs[name] for name in decode._pools}
    for tokens, candidates, kinds in (([3, 4], 2, 1), ([5, 6], 2, 1), ([5, 6], 3, 2), ([3, 4], 2, 2)):
        inputs |= {sig.TOKEN_IDS: np.array(tokens), sig.NUM_CANDIDATES: np.array([candidates])}
        found, plain = captured.run(inputs, pools), decode._run(inputs, pools)
        assert len(captured._steps) == kinds
        for name in (sig.TOP_LOGITS, sig.TOP_IDS, sig.LOG_SUM_EXP):
            np.testing.assert_array_equal(found[name].numpy(), plain[name].numpy())


class Recording:
    """A session of ONNX Runtime; the threads that ran or released, and what was released."""

    def __init__(self, session):
        self._session, self.threads, self.released = session, set(), []

    def __getattr__(self, name):
        return getattr(self._session, name)

    def run_with_iobinding(self, *given):
        self.threads.add(threading.get_ident())
        return self._session.run_with_iobinding(*given)

    def release_captured_graph(self, number):
        self.threads.add(threading.get_ident())
        self.released.append(number)


def test_steps_of_another_request_are_released_by_the_thread_that_captured_them(sessions, artifacts):
    dims, decode = open_artifact(artifacts["fp32"]).manifest.decoder.dims, sessions.decode
    recording = Recording(decode._session)
    captured = CapturedSteps(recording, decode._types, ON_CPU)
    inputs, _ = decode._with_room(step_inputs(dims, rows=0))
    pools = {sig.grown(name): inputs[name] for name in decode._pools}
    prefix = [name for name in inputs if name in sig.cache_names(0)[:2]]
    of_requests = [{name: on_device(inputs[name].copy(), ON_CPU) for name in prefix} for _ in range(2)]
    for which, candidates, released in ((0, 2, []), (0, 3, []), (1, 2, [1, 2]), (0, 2, [1, 2, 3])):
        fed = {**inputs, **of_requests[which], sig.NUM_CANDIDATES: np.array([candidates])}
        thread = threading.Thread(target=captured.run, args=(fed, pools))
        thread.start()
        thread.join()
        assert recording.released == released
    assert len(captured._steps) == 1
    assert len(recording.threads) == 1


def test_where_steps_are_captured_one_request_at_a_time_uses_the_device(artifacts, monkeypatch):
    options = OnnxRuntimeCudaOptions("cpu")
    object.__setattr__(options, "cuda_graph", True)  # which is refused on a CPU
    runtime = RuntimeOptions("onnxruntime-cuda", options)
    inside, most = [], []
    with SpeechLM(open_artifact(artifacts["fp32"]), None, runtime) as model:
        for session in (model._loaded.sessions.encoder, model._loaded.sessions.decode):

            def entered(*given, run=session._session.run_with_iobinding):
                inside.append(1)
                time.sleep(0.05)
                most.append(len(inside))
                run(*given)
                inside.pop()

            monkeypatch.setattr(session._session, "run_with_iobinding", entered)
        requests = [model.submit(noise(1.0), "hello", max_new_tokens=4) for _ in range(3)]
        assert all(request.result() for request in requests)
    assert set(most) == {1}


def test_a_failed_run_tells_the_shapes(sessions, artifacts):
    dims = open_artifact(artifacts["fp32"]).manifest.decoder.dims
    inputs = step_inputs(dims, rows=0)
    inputs[sig.prefix_key(0)] = inputs[sig.prefix_key(0)][:, :, :-1]
    with pytest.raises(EngineError, match=r"decode\.onnx: onnxruntime failed on token_ids \(2,\)"):
        sessions.decode.run(inputs)


@pytest.mark.parametrize("stage", ["encoder", "prefill", "step"])
def test_a_run_is_stopped_from_another_thread(artifacts, stage, monkeypatch):
    with SpeechLM.load(artifacts["fp32"], backend="onnxruntime-cuda", device="cpu") as model:
        request = {"max_new_tokens": 4, "eos_token_ids": ()}
        before = model.generate(noise(3.0), "hello", **request)
        opened, cancellation = model._loaded.sessions, Cancellation()
        session = {"encoder": opened.encoder, "prefill": opened.prefill("full"), "step": opened.decode}[stage]
        run = session._session.run_with_iobinding

        def cancelled(binding, options):
            thread = threading.Thread(target=cancellation.cancel)
            thread.start()
            thread.join()
            return run(binding, options)

        with monkeypatch.context() as patch:
            patch.setattr(session._session, "run_with_iobinding", cancelled)
            with pytest.raises(RequestCancelled, match=f"cancelled in stage {stage}") as caught:
                model.generate(noise(3.0), "hello", cancellation=cancellation, **request)
        assert "terminate flag" in str(caught.value.__cause__)
        assert model.generate(noise(3.0), "hello", **request).hypotheses == before.hypotheses


def test_numbers_of_16_bits_go_to_a_value_and_back():
    numbers = np.array([[1.0, -2.5, 3.140625], [np.inf, 0.0, 1e30]], np.float32)
    value = on_host(numbers, TYPES["tensor(bfloat16)"])
    assert value.data_type() == "tensor(bfloat16)"
    np.testing.assert_allclose(read(value), numbers, rtol=2**-8)
    assert read(on_device(np.zeros((2, 0, 4), np.uint16), ON_CPU)).shape == (2, 0, 4)


@pytest.mark.skipif(HAS_CUDA, reason="this build of onnxruntime has the CUDA provider")
def test_without_the_provider_the_extra_is_named(artifacts):
    with pytest.raises(DependencyError, match=r"no CUDAExecutionProvider; pip install .*\[gpu\].*both fill"):
        SpeechLM.load(artifacts["bf16"], backend="onnxruntime-cuda")


def test_bf16_is_refused_where_it_cannot_be_computed(artifacts):
    with pytest.raises(RequestError, match="no products of bf16 there; build for fp16 or fp32"):
        SpeechLM.load(artifacts["bf16"], backend="onnxruntime-cuda", device="cpu")


def test_an_artifact_without_such_graphs_is_refused(tiny_artifact):
    with pytest.raises(ArtifactError, match="no graphs for onnxruntime-cuda, only for onnxruntime; build it"):
        SpeechLM.load(tiny_artifact, backend="onnxruntime-cuda", device="cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda:01", "CPU", 0, ""])
def test_a_device_that_is_none_is_refused(device):
    with pytest.raises(RequestError, match="give cuda, cuda:N for the GPU of that number, or cpu"):
        OnnxRuntimeCudaOptions(device)


def test_devices_have_a_kind_and_a_number():
    found = [OnnxRuntimeCudaOptions(name) for name in ("cuda", "cuda:3", "cpu")]
    assert [(it.kind, it.number) for it in found] == [("cuda", 0), ("cuda", 3), ("cpu", 0)]
    assert providers(ON_CPU, "fp16") == ["CPUExecutionProvider"]


def test_only_the_wave_encoder_of_16_bits_multiplies_without_tf32(tmp_path, monkeypatch):
    """Its first convolution is in float32, on samples, which are not of 16 bits."""
    TorchWavLLM(seed=1).save(tmp_path / "checkpoint")
    options = BuildOptions((load_profile("full"),), targets=("onnxruntime-cuda",), precision="fp16")
    build(tmp_path / "checkpoint", tmp_path / "artifact", options)
    tf32 = {}
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA_PROVIDER])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)

    class Recorder(OnnxRuntimeCudaSession):
        def __init__(self, path, graph, weights, precision, options, is_step):
            ((_, settings), _) = providers(OnnxRuntimeCudaOptions(), precision)
            tf32[path.stem] = settings["use_tf32"]
            super().__init__(path, graph, weights, precision, options, is_step)

    monkeypatch.setattr(cuda_sessions, "OnnxRuntimeCudaSession", Recorder)
    SpeechLM.load(tmp_path / "artifact", backend="onnxruntime-cuda", device="cpu").close()
    assert tf32.pop("wave_encoder") == "0"
    assert len(tf32) == 4
    assert set(tf32.values()) == {"1"}


Node = namedtuple("Node", "op_type name")


class Placed:
    """What ONNX Runtime tells of a loaded graph."""

    def __init__(self, **nodes):
        self.nodes = nodes

    def get_providers(self):
        return [*self.nodes]

    def get_provider_graph_assignment_info(self):
        part = namedtuple("Part", "ep_name nodes")
        part.get_nodes = lambda self: self.nodes
        return [part(name, [Node(op, "") for op in ops]) for name, ops in self.nodes.items()]


ON_CUDA = OnnxRuntimeCudaOptions(strict=True)
FALLEN = Placed(CUDAExecutionProvider=["Gemm"], CPUExecutionProvider=["Concat", "NonZero", "NonZero", "Loop"])


def test_sizes_may_be_computed_on_the_host():
    placed = Placed(CUDAExecutionProvider=["Gemm"], CPUExecutionProvider=["Concat", "Sub", "Squeeze"])
    check_placement(placed, Path("here"), ON_CUDA)


def test_what_falls_back_is_named_and_refused_where_that_is_asked(caplog):
    words = r"here: .*Loop \(1\), NonZero \(2\)"
    with pytest.raises(EngineError, match=words):
        check_placement(FALLEN, Path("here"), ON_CUDA)
    with caplog.at_level(logging.WARNING):
        check_placement(FALLEN, Path("here"), OnnxRuntimeCudaOptions())
    assert "Loop (1), NonZero (2)" in caplog.text


def test_a_provider_that_did_not_start_is_no_silent_fallback():
    with pytest.raises(EngineError, match="the CUDA provider did not start, so that the graph would run on"):
        check_placement(Placed(CPUExecutionProvider=["Gemm"]), Path("here"), OnnxRuntimeCudaOptions())
