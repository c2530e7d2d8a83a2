"""What the stages measure: kernels, parity and the latency table, run on a CPU, which passes none of them."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from acceptance import artifacts, kernels, latency, models, onnxruntime_cuda, parity, tensorrt
from acceptance.plugin_cases import small_cases
from acceptance.records import FAILED, HOST, NOT_HERE, PASSED, Check, NotHereError, StageResult, judged
from acceptance.stages import Context
from acceptance.tables import show, summary
from onnxruntime import OrtValue

from fastadasp.evaluation.results.files import read_results
from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.model.families.family import load_model
from fastadasp.export.model.fit import audio_tokens, resolve_for
from fastadasp.plugins.compile import KERNELS
from fastadasp.profiles import load_profile
from fastadasp.profiles.errors import EngineError
from fastadasp.runtime import SpeechLM

GPU = "aa" * 16
SMALL = kernels.Sizes(rows=70, heads=2, kv_heads=1, head_dim=40, width=37)


def context(folder: Path, **changes: object) -> Context:
    return replace(Context(folder, folder / "kept", None, None, None), **changes)


def test_the_tables_show_times_beside_ceilings_and_latency_beside_the_paper(capsys):
    medians = {"prefill_ms": 100.0, "decode_ms": 500.0, "rtf": 0.004, "tokens_per_second": None}
    paper = latency.paper_row(240.0, 5, "sparse-50")
    assert paper == {"rtf": 0.077, "prefill_s": 6.48, "decode_s": 11.89, "tokens_per_second": 5.72}
    timed = {
        "microseconds": 50.0,
        "bytes_per_second": 2e12,
        "flops_per_second": 1e12,
        "share_of_copy": 0.5,
        "share_of_bf16_product": 0.01,
    }
    checks = (
        Check("7B", True, GPU, {**medians, "paper": paper}),
        Check("time of copy_rows fp16", True, GPU, timed),
    )
    show([StageResult("kernels", PASSED, None, 1.0, checks)])
    text = capsys.readouterr().out
    assert "0.1 (6.48)" in text
    assert "50 %" in text
    assert text.splitlines()[-1] == "nothing failed; 1 stage passed"


def test_a_stage_that_failed_is_named_in_the_last_line():
    results = [StageResult("kernels", FAILED, "x", 1.0), StageResult("plugins", NOT_HERE, "y", 1.0)]
    assert summary(results) == "failed: kernels; 1 stage not here"


def test_the_paper_has_a_row_for_every_case_and_profile():
    rows = [latency.paper_row(*case, profile) for case in latency.CASES for profile in latency.PROFILES]
    assert len({tuple(row.values()) for row in rows}) == 8  # both reduced profiles beside one row
    assert latency.paper_row(30.0, 1, "full") is None


@pytest.mark.parametrize(("taken", "shown"), [(0, None), (100, None), (500, GPU)])
def test_a_model_that_took_no_memory_of_the_device_is_not_on_it(taken, shown):
    free = iter([1000, 1000 - taken])
    assert artifacts.held(lambda: "model", 1000, GPU, lambda: next(free)) == ("model", shown)


def test_onnxruntime_tells_where_the_weights_are_whatever_memory_a_model_takes(
    tmp_path, monkeypatch, tiny_checkpoint
):
    """Also of the second model of a process, which is in memory that the first has given back."""
    target, folder = "onnxruntime-cuda", tmp_path / "artifact"
    artifacts.build_artifact(tiny_checkpoint, folder, ["full"], "--target", target, "--precision", "fp32")
    for told, shown in (("cpu", None), ("cuda", GPU), ("cuda", GPU)):
        monkeypatch.setattr(OrtValue, "device_name", lambda _, told=told: told)
        model, ran_on = artifacts.load(folder, target, GPU, device="cpu")
        model.close()
        assert ran_on == shown


@pytest.mark.parametrize("wrong", [False, True])
def test_captured_steps_must_give_the_tokens_of_others(tmp_path, monkeypatch, tiny_checkpoint, wrong):
    """On the CPU, which captures nothing; a model whose answers are cut short stands for wrong steps."""
    target, folder = "onnxruntime-cuda", tmp_path / "artifact"
    artifacts.build_artifact(tiny_checkpoint, folder, ["full"], "--target", target, "--precision", "fp32")

    def load(folder, backend, gpu, cuda_graph):
        model = SpeechLM.load(folder, backend=backend, device="cpu")
        if wrong and cuda_graph:
            generate = model.generate
            model.generate = lambda clip, **how: generate(
                clip, **how | {"min_new_tokens": 1, "max_new_tokens": 1}
            )
        return model, gpu

    monkeypatch.setattr(onnxruntime_cuda, "load", load)
    found = onnxruntime_cuda._captured(context(tmp_path, device=GPU), folder, "fp32")
    assert (found.passed, found.ran_on) == (not wrong, GPU)
    assert (found.fault is None) == (not wrong)


def test_every_kernel_is_launched_as_the_library_launches_it():
    """On the CPU, by Triton's interpreter: arguments and grid fit each other."""
    pytest.importorskip("triton", reason="the kernels need the extra engines")
    for name in KERNELS:
        found = kernels.timed(
            name, "fp16", SMALL, "cpu", HOST, {"copy_bytes_per_second": 1e9, "bf16_flops_per_second": 1e9}
        )
        assert found.passed
        assert 0 < found.figures["share_of_copy"] < math.inf
        assert kernels.work_of(name, "fp32", SMALL).bytes >= kernels.work_of(name, "fp16", SMALL).bytes


def test_the_kernels_are_compared_with_the_references():
    pytest.importorskip("triton", reason="the kernels need the extra engines")
    cases = [each for each in small_cases() if next(iter(each.inputs.values())).shape[0] in (1, 33)]
    found = [kernels.compared(each, "cpu", HOST) for each in cases]
    assert len(found) == 12
    assert not [each for each in found if not each.passed]


def test_a_kernel_that_computes_something_else_fails(monkeypatch):
    each = next(each for each in small_cases() if each.plugin == "EvictTokens")
    monkeypatch.setitem(
        kernels.LAUNCHES, "EvictTokens", lambda tensors, span: tensors["hidden"][: each.output.shape[0]]
    )
    assert not kernels.compared(each, "cpu", HOST).passed


def test_random_weights_are_a_checkpoint_that_safetensors_reads(tmp_path):
    from safetensors.numpy import load_file

    shapes = {"a.weight": (3, 5), "input_norm.weight": (7,), "b.weight": (11,)}
    models.write_checkpoint(tmp_path, {"model_type": "x"}, shapes)
    found = load_file(tmp_path / "model.safetensors")
    assert {name: tensor.shape for name, tensor in found.items()} == shapes
    assert (found["input_norm.weight"].astype(np.float32) == 1).all()
    values = found["a.weight"].astype(np.float32)
    assert len(np.unique(values)) > 10
    assert np.abs(values).max() < 0.2


def small_model(folder):
    from random_checkpoint import write_checkpoint

    sizes = {"hidden_size": 32, "num_hidden_layers": 12, "num_attention_heads": 2, "num_key_value_heads": 1}
    write_checkpoint(folder, {**sizes, "intermediate_size": 64, "vocab_size": 100})


def test_the_latency_table_runs_and_a_cpu_does_not_pass_it(tmp_path, monkeypatch):
    monkeypatch.setattr(latency, "CASES", ((2.0, 2), (1.0, 1)))
    monkeypatch.setattr(latency, "RUNS", 1)
    monkeypatch.setattr(latency, "NEW_TOKENS", 3)
    model = models.Model("small", small_model, 0, 0)
    found = list(latency.latency(context(tmp_path, device=GPU), "onnxruntime", models=(model,)))
    assert [each.name for each in found] == [
        *(f"small, 2 beams, 2 s, {profile}" for profile in latency.PROFILES),
        *(f"small, 1 beam, 1 s, {profile}" for profile in latency.PROFILES),
        "small: record of bench",
    ]
    assert all(each.passed for each in found)
    assert found[0].figures["prefill_ms"] > 0
    (file,) = read_results([tmp_path / "kept/bench-onnxruntime-small.json"]).files
    assert len(file.found.results) == 6
    assert file.found.protocol.audio_seconds == (2.0, 1.0)
    assert judged("onnxruntime-cuda-latency", 1.0, found, [], GPU).status == FAILED


def test_a_case_that_fails_is_a_fault_and_the_others_are_measured(tmp_path, monkeypatch):
    measured = latency._measured

    def failing(loaded, seconds, beams):
        if beams == 2:
            raise EngineError("no memory for 2 beams")
        return measured(loaded, seconds, beams)

    monkeypatch.setattr(latency, "_measured", failing)
    monkeypatch.setattr(latency, "CASES", ((1.0, 2), (1.0, 1)))
    monkeypatch.setattr(latency, "RUNS", 1)
    monkeypatch.setattr(latency, "NEW_TOKENS", 3)
    model = models.Model("small", small_model, 0, 0)
    failed, *others = latency.latency(context(tmp_path), "onnxruntime", models=(model,))
    assert (failed.name, failed.passed) == ("small, 1 s, beams 2", False)
    assert failed.fault == "no memory for 2 beams"
    assert [each.name for each in others] == [
        *(f"small, 1 beam, 1 s, {profile}" for profile in latency.PROFILES),
        "small: record of bench",
    ]
    assert all(each.passed for each in others)


def test_models_for_which_there_is_no_time_are_named(tmp_path):
    short = context(tmp_path, deadline=time.monotonic() + 10)
    assert [each.name for each in latency.latency(short, "onnxruntime")] == [
        each.name for each in models.MODELS
    ]


def test_a_model_that_is_not_built_is_a_fault_and_not_the_end(tmp_path):
    wrong = models.Model("wrong", lambda folder: folder.mkdir(parents=True), 0, 0)
    (found,) = latency.latency(context(tmp_path), "onnxruntime", models=(wrong,))
    assert not found.passed
    assert "config.json" in found.fault


def test_a_model_is_compared_graph_by_graph_and_by_its_answers(tmp_path, monkeypatch, tiny_checkpoint):
    """On the CPU, whose graphs are fp32; a random model answers no clip of the demo."""
    pytest.importorskip("polygraphy", reason="parity needs the extra check")
    build = parity.build_artifact
    monkeypatch.setattr(parity, "DEMO", tiny_checkpoint)
    monkeypatch.setattr("fastadasp.export.check.options.demo_clips", lambda: ())
    monkeypatch.setattr(parity, "build_artifact", lambda *words: build(*words[:2], ["full"]))
    found = list(parity.parity(context(tmp_path, device=GPU), tmp_path / "artifact", "onnxruntime", "bf16"))
    assert {each.name.split()[0] for each in found} == {"encoder", "prefill", "decode", "answers,", "answers"}
    assert [each.name for each in found if not each.passed] == ["answers, bf16"]
    assert {each.ran_on for each in found} == {None}
    assert (found[-2].figures["right"], found[-2].figures["clips"]) == (0, 10)
    assert (found[-1].name, found[-1].figures["clips"]) == ("answers together, bf16", 10)


@pytest.mark.parametrize("model", models.MODELS[1:], ids=lambda model: model.name)
def test_the_seven_billion_models_are_described_and_hold_the_longest_audio(model, tmp_path, monkeypatch):
    """Their weights are holes."""
    monkeypatch.setattr(models, "_content", lambda *_: ())
    model.write(tmp_path)
    file = tmp_path / "model.safetensors"
    size = int.from_bytes(file.read_bytes()[:8], "little")
    header = json.loads(file.read_bytes()[8 : 8 + size])
    os.truncate(file, 8 + size + max(each["data_offsets"][1] for each in header.values()))
    described = load_model(Checkpoint(tmp_path))
    assert 6.5e9 < sum(math.prod(each["shape"]) for each in header.values()) < 9e9
    options = dict(zip(model.options[::2], model.options[1::2], strict=True))
    positions = int(options.get("--max-positions", described.decoder.max_positions))
    rows = audio_tokens(described, max(seconds for seconds, _ in latency.CASES))
    assert rows + 256 + latency.NEW_TOKENS < positions
    assert described.decoder.dims.num_layers == 32
    assert all(resolve_for(load_profile(name), described) for name in latency.PROFILES)


def test_engines_for_a_gpu_that_the_product_does_not_know_are_not_here(tmp_path, monkeypatch):
    pytest.importorskip("tensorrt_rtx", reason="needs the extra tensorrt-rtx")
    from fastadasp.runtime.tensorrt import sessions

    hopper = SimpleNamespace(device=SimpleNamespace(sm=90, name="H100"))
    monkeypatch.setattr(sessions, "open_platform", lambda _: hopper)
    build = parity.build_artifact  # of "full" alone, which needs no plugin library
    monkeypatch.setattr(parity, "build_artifact", lambda *words: build(*words[:2], ["full"], *words[3:]))
    with pytest.raises(NotHereError, match=r"SM90\) not supported by this TensorRT-RTX"):
        list(tensorrt.run_rtx(context(tmp_path, artifacts=tmp_path)))


def test_a_version_without_the_target_says_so(monkeypatch):
    monkeypatch.setattr("fastadasp.export.targets.TARGETS", {"onnxruntime": None})
    with pytest.raises(NotHereError, match="this version has no target onnxruntime-cuda"):
        onnxruntime_cuda.require_provider()
