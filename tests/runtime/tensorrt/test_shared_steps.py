"""Requests share steps of the decode engine: answers, memory and limits, over a stand-in for the GPU."""

from __future__ import annotations

import gc
import random

import numpy as np
import pytest

from conftest import noise
from fake_tensorrt import LIMITS, FakeDevice, FakeTensorRT, with_engines
from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.checkpoint.precision import FP32
from fastadasp.export.checkpoint.weights import weight_store
from fastadasp.export.engines.shapes import decode_profile
from fastadasp.export.graphs.lowering.tensorrt import TensorRTLowering
from fastadasp.export.graphs.write import DECODE_FILE, write_graphs
from fastadasp.export.model.families.family import load_model
from fastadasp.export.options import EngineOptions
from fastadasp.profiles.errors import EngineError, RequestCancelled
from fastadasp.runtime import Cancellation, SpeechLM
from fastadasp.runtime.batching import shared_steps
from fastadasp.runtime.runtime_options import runtime_options
from fastadasp.runtime.tensorrt import sessions
from fastadasp.runtime.tensorrt.buffers import DeviceBuffers
from fastadasp.runtime.tensorrt.sessions import Platform

from ..batching.answers import assert_same
from ..batching.meeting import meet

LONG_WAIT = 60.0
TRIES = 20  # of what needs three requests at once
TOKENS = 32
BUILT_FOR = EngineOptions(
    max_audio_seconds=LIMITS["max_audio_seconds"],
    max_beams=LIMITS["max_beams"],
    max_batch=LIMITS["max_batch"],
    max_text_rows=LIMITS["max_text_rows"],
    max_new_tokens=TOKENS,
)
ANSWER = {"max_new_tokens": 20, "eos_token_ids": ()}


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A busy machine makes no member late."""
    monkeypatch.setattr(shared_steps, "GATHER", 2.0)


@pytest.fixture(scope="module")
def lowered(tiny_checkpoint, tmp_path_factory):
    """The decode graph that engines are built from, in float32; and the shapes that they are built for."""
    folder, model = tmp_path_factory.mktemp("graphs"), load_model(Checkpoint(tiny_checkpoint))
    store = weight_store(model.tensors, "copy", FP32)
    write_graphs(folder, model, [], store, TensorRTLowering(FP32, LIMITS["max_audio_rows"]))
    store.write(folder)
    return folder / DECODE_FILE, decode_profile(model, LIMITS["max_audio_rows"], BUILT_FOR).shapes


@pytest.fixture(scope="module")
def artifact(tiny_artifact, lowered, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tensorrt") / "artifact"
    return with_engines(tiny_artifact, folder, lowered[1], max_new_tokens=TOKENS)


@pytest.fixture
def load(monkeypatch, artifact, lowered):
    """Loads the artifact, with the sizes of the steps that run from then on."""

    def loaded(activation="FLOAT", **options):
        platform = Platform(FakeTensorRT(artifact, activation, decode=lowered[0]), FakeDevice())
        monkeypatch.setattr(sessions, "open_platform", lambda product: platform)
        model = SpeechLM(artifact, options=runtime_options("tensorrt", **options))
        sizes, run = [], model._loaded.sessions.decode.run

        def counted(inputs):
            sizes.append(len(inputs["steps"]))
            return run(inputs)

        monkeypatch.setattr(model._loaded.sessions.decode, "run", counted)
        return model, platform.device, sizes

    return loaded


def drawn(model, rng):
    """A request, but for its audio."""
    beams = rng.choice((1, 1, 2, 4))
    return {
        "prompt": rng.choice(("hello", "transcribe the audio")),
        "profile": rng.choice(model.profiles),
        "num_beams": beams,
        "num_return_sequences": rng.randint(1, beams),
        "max_new_tokens": rng.choice((1, 5, 24, TOKENS)),
        **({"eos_token_ids": ()} if rng.random() < 0.5 else {}),
    }


@pytest.mark.parametrize("seed", range(2))
def test_requests_drawn_at_random_are_answered_as_by_onnxruntime_alone(load, artifact, seed):
    """Prefixes, beams and profiles differ; requests join and leave; pools grow and lose dead rows."""
    rng = random.Random(seed)
    with SpeechLM.load(artifact.folder, threads=1, prepack=False) as reference:
        asked = [(noise(rng.choice((0.5, 1.3, 3.0, 7.0)), seed=i), drawn(reference, rng)) for i in range(12)]
        wanted = [reference.generate(heard, **options) for heard, options in asked]
    model, _, sizes = load(max_batch=6)
    requests = []
    for heard, options in asked:
        requests.append(model.submit(heard, **options))
        if rng.random() < 0.3:
            requests[rng.randrange(len(requests))].result(LONG_WAIT)
    for request, alone in zip(requests, wanted, strict=True):
        assert_same(request.result(LONG_WAIT), alone)
    assert max(sizes) > 2
    model.close()


@pytest.mark.parametrize("activation", ["BF16", "HALF"])
def test_in_16_bits_requests_are_answered_as_each_is_alone(load, activation, monkeypatch):
    model, _, sizes = load(activation)
    heard = [noise(seconds, seed=i) for i, seconds in enumerate((1.0, 4.0, 2.0, 3.0))]
    asked = [{**ANSWER, "num_beams": 1 + i % 3} for i in range(4)]
    wanted = [model.generate(each, "hello", **options) for each, options in zip(heard, asked, strict=True)]
    assert set(sizes) == {1}
    meet(monkeypatch, model, 4)
    requests = [model.submit(each, "hello", **options) for each, options in zip(heard, asked, strict=True)]
    for request, alone in zip(requests, wanted, strict=True):
        assert_same(request.result(LONG_WAIT), alone, atol=5e-2)
    assert max(sizes) == 4
    model.close()


def test_more_requests_than_the_engine_takes_are_answered_in_several_steps(load, monkeypatch):
    model, _, sizes = load(max_batch=7)
    heard = model.encode(noise(2.0))
    alone = model.generate(heard, "hello", **ANSWER)
    meet(monkeypatch, model, 7)
    for request in [model.submit(heard, "hello", **ANSWER) for _ in range(7)]:
        assert_same(request.result(LONG_WAIT), alone)
    assert max(sizes) == LIMITS["max_batch"]
    model.close()


def test_who_leaves_gives_the_memory_of_the_device_back(load):
    model, device, _ = load()
    heard, held = model.encode(noise(2.0)), []
    for _ in range(3):
        for request in [model.submit(heard, "hello", num_beams=2, **ANSWER) for _ in range(4)]:
            request.result(LONG_WAIT)
        gc.collect()
        held.append(device.live_bytes)
    assert held[0] == held[1] == held[2]
    model.close()


def test_the_device_holds_no_more_than_the_bounds_of_the_requests(load, monkeypatch):
    model, device, _ = load()
    heard, before = [model.encode(noise(seconds)) for seconds in (1.0, 7.0, 3.0, 5.0)], device.live_bytes
    asked = [{"num_beams": beams, "max_new_tokens": TOKENS, "eos_token_ids": ()} for beams in (4, 1, 3, 2)]
    pairs = list(zip(heard, asked, strict=True))
    bounds = [model.request_memory(each.audio.seconds, text_rows=50, **options) for each, options in pairs]
    meet(monkeypatch, model, 4)
    for request in [model.submit(each, "hello", **options) for each, options in pairs]:
        request.result(LONG_WAIT)
    held, caches = device.peak_bytes - before, sum(bound.kv_cache for bound in bounds)
    assert caches < held <= caches + sum(bound.steps + bound.batch for bound in bounds)
    model.close()


def test_a_request_for_which_the_device_has_no_room_leaves_the_others_alone(load, monkeypatch):
    model, device, _ = load()
    heard = model.encode(noise(2.0))
    alone = model.generate(heard, "hello", **ANSWER)
    gc.collect()
    before = device.live_bytes

    def full(self, lengths):
        raise EngineError("cudaMallocAsync: out of memory")

    monkeypatch.setattr(DeviceBuffers, "fit", full)
    meet(monkeypatch, model, 2)
    first, second = (model.submit(heard, "hello", **ANSWER) for _ in range(2))
    errors = [request for request in (first, second) if _error(request)]
    assert len(errors) == 1
    assert_same((second if errors == [first] else first).result(LONG_WAIT), alone)
    del first, second, errors
    gc.collect()
    assert device.live_bytes == before
    model.close()


def _error(request):
    try:
        request.result(LONG_WAIT)
    except EngineError as error:
        return str(error)
    return None


def test_what_a_step_makes_is_written_by_one_copy_a_request(load):
    """Whatever the number of layers: a call of CUDA for each layer would take longer than a short step."""
    model, device, sizes = load()
    model.generate(noise(2.0), "hello", max_new_tokens=14, eos_token_ids=())
    assert len(device.copies) == len(sizes) == 13
    dims = model.manifest.decoder.dims
    assert set(device.copies) == {2 * dims.num_layers * dims.num_kv_heads * dims.head_dim * 4}
    model.close()


def test_a_request_that_is_cancelled_leaves_the_others_alone(load):
    model, _, sizes = load()
    heard = model.encode(noise(2.0))
    alone = model.generate(heard, "hello", **ANSWER)
    cancellation, run = Cancellation(), model._loaded.sessions.decode.run

    def cancelling(inputs):
        if len(inputs["steps"]) == 3 and min(inputs["steps"]) > 3:
            cancellation.cancel()
        return run(inputs)

    model._loaded.sessions.decode.run = cancelling
    for _ in range(TRIES):
        others = [model.submit(heard, "hello", **ANSWER) for _ in range(2)]
        gone = model.submit(heard, "hello", cancellation=cancellation, **ANSWER)
        for request in others:
            assert_same(request.result(LONG_WAIT), alone)
        if cancellation.cancelled:
            break
        assert_same(gone.result(LONG_WAIT), alone)  # on a busy machine one may end before the last begins
    with pytest.raises(RequestCancelled):
        gone.result(LONG_WAIT)
    assert {2, 3} <= set(sizes)
    model.close()


def test_a_step_that_fails_fails_for_all_and_the_next_ones_run(load):
    model, _, _ = load()
    heard, context = model.encode(noise(2.0)), model._loaded.sessions.decode._context
    alone = model.generate(heard, "hello", **ANSWER)
    run, context.execute_async_v3 = context.execute_async_v3, lambda stream: False
    for request in [model.submit(heard, "hello", **ANSWER) for _ in range(3)]:
        with pytest.raises(EngineError, match="engine decode: it did not run"):
            request.result(LONG_WAIT)
    context.execute_async_v3 = run
    assert_same(model.submit(heard, "hello", **ANSWER).result(LONG_WAIT), alone)
    model.close()


def test_rows_that_are_no_numbers_spoil_no_request_that_takes_their_place(load):
    model, _, _ = load()
    heard = model.encode(noise(2.0))
    bad = model.encode(noise(2.0, seed=1))
    alone = model.generate(heard, "hello", **ANSWER)
    bad.rows[...] = np.nan
    requests = [model.submit(each, "hello", **ANSWER) for each in (heard, bad, heard)]
    with pytest.raises(Exception, match="not finite"):
        requests[1].result(LONG_WAIT)
    for request in (requests[0], requests[2], model.submit(heard, "hello", **ANSWER)):
        assert_same(request.result(LONG_WAIT), alone)
    model.close()
