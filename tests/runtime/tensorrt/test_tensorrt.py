"""The host side of the TensorRT backend over a stand-in for the GPU: what it checks, binds and gives back."""

from __future__ import annotations

import gc
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from fake_tensorrt import MACHINE, FakeDevice, FakeTensorRT, with_engines, write_manifest
from fastadasp.profiles.errors import ArtifactError, AudioError, DependencyError, EngineError, RequestError
from fastadasp.runtime import PromptIds, SpeechLM
from fastadasp.runtime.artifact.artifact import open_artifact
from fastadasp.runtime.artifact.engines import Machine
from fastadasp.runtime.runtime_options import runtime_options
from fastadasp.runtime.tensorrt import api, device, sessions
from fastadasp.runtime.tensorrt.api import kind
from fastadasp.runtime.tensorrt.device import CudaDevice
from fastadasp.runtime.tensorrt.element_types import bfloat16_bits, bfloat16_numbers
from fastadasp.runtime.tensorrt.plan import check_machine
from fastadasp.runtime.tensorrt.sessions import Platform, TensorRTSessions
from fastadasp.runtime.tensorrt.stack import runs

ON_TENSORRT = runtime_options("tensorrt")
CUDA_MEMBERS = {"cudaMemcpyHostToDevice", "cudaMemcpyDeviceToHost", "cudaMemcpyDeviceToDevice", "cudaSuccess"}
"""Of enumerations."""


@pytest.fixture(scope="module")
def artifact(tiny_artifact, tmp_path_factory):
    return with_engines(tiny_artifact, tmp_path_factory.mktemp("tensorrt") / "artifact")


@pytest.fixture
def own_artifact(tiny_artifact, tmp_path):
    """One to change."""
    return with_engines(tiny_artifact, tmp_path / "artifact")


def load(monkeypatch, artifact, activation="FLOAT", device=None, **options):
    platform = Platform(FakeTensorRT(artifact, activation, **options), device or FakeDevice())
    monkeypatch.setattr(sessions, "open_platform", lambda product: platform)
    return SpeechLM(artifact, options=ON_TENSORRT), platform


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("profile", ["full", "own-30"])
def test_answers_are_those_of_onnxruntime(monkeypatch, artifact, clip, profile, num_beams):
    """Thirty tokens of a few beams: the pool grows, and its dead rows are dropped on the device."""
    options = {"profile": profile, "num_beams": num_beams, "max_new_tokens": 30, "min_new_tokens": 30}
    model, _ = load(monkeypatch, artifact)
    found = model.generate(clip, "hello", **options)
    reference = SpeechLM.load(artifact.folder, threads=1, prepack=False)  # as the stand-in
    expected = reference.generate(clip, "hello", **options)
    assert found.hypotheses == expected.hypotheses
    assert found.prefix_lengths == expected.prefix_lengths
    assert found.kv_bytes == expected.kv_bytes


def test_engines_score_no_text_and_take_the_memory_of_a_prefill_when_they_are_loaded(
    monkeypatch, artifact, clip
):
    model, _ = load(monkeypatch, artifact)
    assert model.request_memory(3).prefill == 0
    with pytest.raises(RequestError, match="engines give the best tokens alone"):
        model.generate(clip, "hello", scored_text="yes")


def test_the_prompt_adapter_runs_once_a_prompt_and_its_strength_reaches_every_graph(monkeypatch, tmp_path):
    from fastadasp.export.options import BuildOptions
    from fastadasp.export.pipeline import build
    from fastadasp.profiles import Profile
    from torch_wavllm import PROMPTS, TorchWavLLM

    TorchWavLLM(seed=1).save(tmp_path / "checkpoint")
    build(
        tmp_path / "checkpoint", tmp_path / "plain", BuildOptions((Profile("full", "full"),), weights="copy")
    )
    model, platform = load(monkeypatch, with_engines(tmp_path / "plain", tmp_path / "artifact"))
    reference = SpeechLM.load(tmp_path / "plain", threads=1, prepack=False)
    wave = np.random.default_rng(0).standard_normal(12000).astype(np.float32)
    for prompt in PROMPTS.values():
        ids = PromptIds(*(prompt[name] for name in ("left_ids", "right_ids", "adapter_ids")))
        found, expected = (
            one.generate(wave, ids, num_beams=2, max_new_tokens=6, eos_token_ids=())
            for one in (model, reference)
        )
        assert found.hypotheses == expected.hypotheses
    assert platform.trt.deserialised.count("prompt_adapter.onnx") == 1
    with pytest.raises(RequestError, match=r"text for the prompt adapter: 65 are more than the 64"):
        model.generate(wave, PromptIds([1], [2], [3] * 65), max_new_tokens=2)


@pytest.mark.parametrize(("activation", "tolerance"), [("BF16", 8e-3), ("HALF", 1e-3)])
def test_16_bit_activations_cross_the_boundary_as_numbers(monkeypatch, artifact, clip, activation, tolerance):
    model, _ = load(monkeypatch, artifact, activation)
    reference = SpeechLM.load(artifact.folder, threads=1)
    samples = np.sin(np.arange(32000, dtype=np.float32) / 20)
    from fastadasp.runtime.latency import Stopwatch

    rows, expected = (m.audio_encoder.encode(samples, Stopwatch()) for m in (model, reference))
    assert rows.dtype in (np.float32, np.float16)
    assert np.abs(rows - expected).max() <= tolerance * np.abs(expected).max()
    assert model.generate(clip, "hello", max_new_tokens=4).kv_bytes * 2 == pytest.approx(
        reference.generate(clip, "hello", max_new_tokens=4).kv_bytes, rel=0.1
    )


def test_device_memory_is_given_back(monkeypatch, artifact, clip):
    model, platform = load(monkeypatch, artifact)
    held = []
    for _ in range(3):
        model.generate(clip, "hello", num_beams=3, max_new_tokens=20)
        gc.collect()
        held.append(platform.device.live_bytes)
    assert held[0] == held[1] == held[2]


def test_a_prefill_is_loaded_when_it_is_first_asked_for(monkeypatch, artifact, clip):
    model, platform = load(monkeypatch, artifact)
    assert platform.trt.deserialised == ["encoder.onnx", "decode.onnx", "prefill.full.onnx"]
    model.generate(clip, "hello", profile="own-30", max_new_tokens=2)
    model.generate(clip, "hello", profile="own-30", max_new_tokens=2)
    assert platform.trt.deserialised[3:] == ["prefill.own-30.onnx"]


def test_no_kernel_is_compiled_for_one_step_of_the_decode_engine(monkeypatch, artifact):
    model, _ = load(monkeypatch, artifact)
    config = model._loaded.sessions.decode._context.config
    assert config.dynamic_shapes_kernel_specialization_strategy == "NONE"
    assert config.cuda_graph_strategy == "DISABLED"
    assert model._loaded.sessions.encoder._context.config is None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"product": "tensorrt"}, "TensorRT product: tensorrt is needed, tensorrt_rtx is here"),
        ({"version": "1.6.0.1"}, "its version: 1.6.0.1 is needed, 1.7.1.116 is here"),
        ({"sm": 90}, r"compute capability \(SM\): 90 is needed, 80 is here"),
    ],
)
def test_plans_for_another_machine_are_refused_before_anything_is_deserialised(own_artifact, change, named):
    manifest = own_artifact.manifest
    engines = replace(manifest.engines, machine=replace(MACHINE, **change))
    write_manifest(own_artifact.folder, replace(manifest, engines=engines))
    changed = open_artifact(own_artifact.folder)
    platform = Platform(FakeTensorRT(changed), FakeDevice())
    with pytest.raises(EngineError, match=named):
        TensorRTSessions(changed, platform)
    assert platform.trt.deserialised == []


def test_every_field_that_differs_is_named_at_once():
    with pytest.raises(EngineError, match=r"version: 1 is needed, 2 is here; compute capability \(SM\): 80"):
        check_machine(Machine("tensorrt", "1", 80), Machine("tensorrt", "2", 86))


def test_plugins_of_another_version_are_refused_by_name(artifact):
    platform = Platform(FakeTensorRT(artifact, plugin_version="0"), FakeDevice())
    with pytest.raises(DependencyError, match=r"MergeTokens has version 0.*version 1 is needed"):
        TensorRTSessions(artifact, platform)
    assert platform.trt.deserialised == []


def test_a_missing_plugin_library_is_refused_by_name(own_artifact):
    (own_artifact.folder / "engines/plugins.so").unlink()
    with pytest.raises(ArtifactError, match=r"engines/plugins\.so is missing"):
        open_artifact(own_artifact.folder)


def test_a_flipped_byte_in_a_plan_is_named_when_the_artifact_is_opened(own_artifact):
    flip(own_artifact.folder / "engines/decode.plan")
    with pytest.raises(ArtifactError, match=r"engines/decode\.plan does not match its hash"):
        open_artifact(own_artifact.folder)


def test_a_byte_that_flips_after_opening_is_named_before_the_plan_is_deserialised(monkeypatch, own_artifact):
    """A plan may have been replaced since, so the file that is mapped is compared again."""
    flip(own_artifact.folder / "engines/decode.plan")
    platform = Platform(FakeTensorRT(own_artifact), FakeDevice())
    with pytest.raises(
        ArtifactError, match=r"decode\.plan has changed since .*\(it does not match its hash\)"
    ):
        TensorRTSessions(own_artifact, platform)
    assert "decode.onnx" not in platform.trt.deserialised


def test_a_plan_that_is_replaced_before_its_first_use_is_named(monkeypatch, own_artifact):
    model, platform = load(monkeypatch, own_artifact)
    flip(own_artifact.folder / "engines/prefill.own-30.plan")
    with pytest.raises(ArtifactError, match=r"prefill\.own-30\.plan has changed since"):
        model.generate(np.ones(16000, np.float32), "hello", profile="own-30", max_new_tokens=2)
    assert "prefill.own-30.onnx" not in platform.trt.deserialised


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_the_plan_of_another_graph_is_refused(own_artifact):
    manifest = own_artifact.manifest
    plans = {
        name: replace(plan, graph_sha256="beef" * 16) if name == "decode" else plan
        for name, plan in manifest.engines.plans.items()
    }
    write_manifest(own_artifact.folder, replace(manifest, engines=replace(manifest.engines, plans=plans)))
    changed = open_artifact(own_artifact.folder)
    with pytest.raises(
        EngineError, match=r"decode\.plan is the plan of 'decode (f00d){16}', not of 'decode (beef){16}'"
    ):
        TensorRTSessions(changed, Platform(FakeTensorRT(changed), FakeDevice()))


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (
            {"layer_ratios": (Fraction(0), Fraction(1, 4), *[Fraction(3, 10)] * 2)},
            "layer 1 of its plan removes 1/4 .* the profile 3/10",
        ),
        ({"input_ratio": Fraction(1, 4)}, "the input of its plan removes 1/4 .* the profile 0"),
    ],
)
def test_a_ratio_that_changed_between_graph_and_plan_is_named(monkeypatch, own_artifact, changed, named):
    manifest = own_artifact.manifest
    name = "prefill.own-30"
    other = replace(manifest.engines.plans[name], **changed)
    engines = replace(manifest.engines, plans={**manifest.engines.plans, name: other})
    write_manifest(own_artifact.folder, replace(manifest, engines=engines))
    model, _ = load(monkeypatch, open_artifact(own_artifact.folder))
    with pytest.raises(EngineError, match=f"'own-30': {named}"):
        model.generate(np.ones(16000, np.float32), "hello", profile="own-30", max_new_tokens=2)


def test_audio_beyond_the_engines_is_refused_with_the_longest(monkeypatch, artifact):
    model, _ = load(monkeypatch, artifact)
    with pytest.raises(
        AudioError, match=r"10\.0 s take 250 rows; .* at most 200, 8\.0 s: .*--max-audio-seconds"
    ):
        model.generate(np.ones(160000, np.float32), "hello", max_new_tokens=4)


def test_beams_and_tokens_beyond_the_engines_are_refused_at_once(monkeypatch, artifact, clip):
    model, _ = load(monkeypatch, artifact)
    with pytest.raises(
        RequestError, match=r"num_beams: 5 are more than the 4 .*max_new_tokens: 64 are more than the 32"
    ):
        model.generate(clip, "hello", num_beams=5, max_new_tokens=64)


def test_sizes_outside_the_optimization_profile_are_refused_by_tensor(own_artifact):
    manifest = own_artifact.manifest
    shapes = {"mel": ((128, 4), (128, 100), (128, 100)), "encoder_rows": ((2,), (40,), (40,))}
    plan = replace(manifest.engines.plans["encoder"], shapes=shapes)
    engines = replace(manifest.engines, plans={**manifest.engines.plans, "encoder": plan})
    write_manifest(own_artifact.folder, replace(manifest, engines=engines))
    changed = open_artifact(own_artifact.folder)
    encoder = TensorRTSessions(changed, Platform(FakeTensorRT(changed), FakeDevice())).encoder
    with pytest.raises(EngineError, match=r"engine encoder: mel 128x101 is outside of .*, 128x4 to 128x100"):
        encoder.run({"mel": np.zeros((128, 101), np.float32), "encoder_rows": np.array([50])})
    with pytest.raises(EngineError, match="encoder_rows 41 is outside"):
        encoder.run({"mel": np.zeros((128, 82), np.float32), "encoder_rows": np.array([41])})


def test_shapes_that_cannot_be_inferred_are_told_with_the_librarys_words(monkeypatch, artifact, clip):
    model, _ = load(monkeypatch, artifact)
    session, words = model._loaded.sessions.encoder, ["sizes do not fit", ""]

    def failing():
        session._log.last_error = words.pop(0)
        raise RuntimeError("shapes")

    session._context.infer_shapes = failing
    for told in ("sizes do not fit", "shapes"):
        with pytest.raises(EngineError, match=f"engine encoder: {told}"):
            model.generate(clip, "hello", max_new_tokens=2)


def test_inputs_that_did_not_reach_the_engine_are_named(monkeypatch, artifact, clip):
    model, _ = load(monkeypatch, artifact)
    model._loaded.sessions.encoder._context.set_tensor_address = lambda name, address: True
    with pytest.raises(EngineError, match=r"engine encoder: mel, encoder_rows are not set; report this"):
        model.generate(clip, "hello", max_new_tokens=2)


def test_a_run_that_fails_is_told_with_the_librarys_words(monkeypatch, artifact, clip):
    model, _ = load(monkeypatch, artifact)
    session = model._loaded.sessions.encoder
    words = ["out of something", ""]

    def failing(stream):
        session._log.last_error = words.pop(0) or session._log.last_error
        return False

    session._context.execute_async_v3 = failing
    for told in ("out of something", "it did not run"):
        with pytest.raises(EngineError, match=f"engine encoder: {told}"):
            model.generate(clip, "hello", max_new_tokens=2)
    session._context.set_input_shape = lambda name, shape: False
    with pytest.raises(EngineError, match=r"engine encoder: mel \(.*\): no reason was given"):
        model.generate(clip, "hello", max_new_tokens=2)


def test_an_artifact_without_engines_is_refused_with_the_remedy(tiny_artifact):
    with pytest.raises(EngineError, match="has no engines; build it with --engine tensorrt-rtx"):
        SpeechLM.load(tiny_artifact, backend="tensorrt")


def test_options_of_onnxruntime_are_refused(artifact):
    with pytest.raises(
        RequestError, match=r"threads, prepack \(--lean\): no option of the backend tensorrt, "
    ):
        SpeechLM.load(artifact.folder, backend="tensorrt", threads=2, prepack=False)


def test_an_unknown_backend_lists_the_known(artifact):
    with pytest.raises(RequestError, match="backend 'magic' is unknown; choose onnxruntime, onnx"):
        SpeechLM.load(artifact.folder, backend="magic")


@pytest.mark.parametrize(
    ("protocol", "name"),
    [(api.Context, "IExecutionContext"), (api.Engine, "ICudaEngine"), (api.Runtime, "Runtime")],
)
def test_tensorrt_has_every_call_that_the_runtime_makes(protocol, name):
    trt = pytest.importorskip("tensorrt_rtx", reason="needs the extra tensorrt-rtx")
    calls = {call for call in (*vars(protocol), *protocol.__annotations__) if not call.startswith("_")}
    assert calls
    assert calls <= set(dir(getattr(trt, name)))
    assert {kind(trt.DataType.BF16), kind(trt.TensorLocation.HOST), kind(trt.TensorIOMode.INPUT)} == {
        *("BF16", "HOST", "INPUT")
    }


def test_cuda_has_every_call_that_the_device_makes():
    cuda = pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-python")
    calls = set(re.findall(r"\bcuda[A-Z]\w+", Path(device.__file__).read_text("utf-8")))
    assert len(calls) > 10
    assert {call for call in calls if not hasattr(cuda, call)} == CUDA_MEMBERS


def test_a_machine_without_a_gpu_is_told_so():
    pytest.importorskip("cuda.bindings", reason="the backend tensorrt needs cuda-python")
    if Path("/dev/nvidia0").exists():
        pytest.skip("a GPU is here")
    with pytest.raises(EngineError, match=r"no GPU that CUDA can use is here .*backend onnxruntime"):
        CudaDevice()


def test_bfloat16_rounds_to_nearest_and_ties_to_even():
    ties = np.array([1 + 2**-8, 1 + 3 * 2**-8, -(1 + 2**-8), 1 + 2**-8 + 2**-20], np.float32)
    assert bfloat16_numbers(bfloat16_bits(ties)).tolist() == [1, 1 + 2**-6, -1, 1 + 2**-7]


def test_bfloat16_agrees_with_a_library_on_every_kind_of_number():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    bits = np.random.default_rng(0).integers(0, 2**32, 100_000, np.uint32)
    special = np.array([0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 3.4e38], np.float32)
    numbers = np.concatenate([bits.view(np.float32), special])
    with np.errstate(invalid="ignore", over="ignore"):
        expected = numbers.astype(ml_dtypes.bfloat16).astype(np.float32)
    found = bfloat16_numbers(bfloat16_bits(numbers))
    np.testing.assert_array_equal(found, expected)


def test_rows_are_taken_in_runs():
    assert list(runs(np.array([0, 1, 2, 5, 7, 8]))) == [(0, 0, 3), (3, 5, 1), (4, 7, 2)]
    assert list(runs(np.array([], np.int64))) == []
