"""The command `plan`: what it needs, what it refuses, and how a file of measured times changes it."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from click.testing import CliRunner

from fastadasp.evaluation.results.files import read_results, result_text
from fastadasp.evaluation.results.plan import PlanResult
from fastadasp.export.checkpoint.derived import stored_in
from fastadasp.export.checkpoint.precision import FP32
from fastadasp.export.cli import main
from fastadasp.export.model.quantize import quantized
from fastadasp.export.prediction import cpu
from fastadasp.export.prediction.devices import DEVICES, GPU_EFFICIENCY, efficiency_of
from fastadasp.export.prediction.model import CPU_GRAPHS, GPU_GRAPHS, planned_model
from fastadasp.export.prediction.options import PlanOptions
from fastadasp.export.prediction.plan import largest_batch
from fastadasp.export.prediction.target import target
from fastadasp.export.prediction.work import Sizes
from fastadasp.profiles.profile import load_profile
from fastadasp.runtime.benchmark.records import Benchmark, BenchmarkProtocol, Case, Spread
from fastadasp.runtime.environment import environment
from shared_files import REAL_FILES
from tiny_families import TINY

TRUE = replace(efficiency_of(GPU_EFFICIENCY), compute=0.42, memory=0.66)


def plan(*args):
    result = CliRunner().invoke(main, ["plan", *map(str, args)], terminal_width=200)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def planned(tmp_path, *args, exit_code=0) -> PlanResult:
    result = plan(*args, "-o", tmp_path / "plan.json")
    assert result.exit_code == exit_code, result.output
    ((file),) = read_results([tmp_path / "plan.json"]).files
    assert isinstance(file.found, PlanResult)
    return file.found


def refusal(*args) -> str:
    result = plan(*args)
    assert result.exit_code == 2, result.output
    return result.stderr.splitlines()[-1]


def test_the_settings_alone_are_enough(seven_billion, tmp_path):
    found = planned(tmp_path, seven_billion, "--device", ",".join(DEVICES))
    assert [each.name for each in found.devices] == list(DEVICES)
    assert len(found.cases) == len(DEVICES) * 2 * 2 * 3
    assert all(case.total_ms for case in found.cases)
    assert "The checkpoint folder has no weights: none are needed for a plan." in found.notes


def test_no_file_of_weights_or_of_a_tokenizer_is_opened(seven_billion, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text((seven_billion / "config.json").read_text("utf-8"), "utf-8")
    for name in ("model.safetensors", "tokenizer.json"):
        (folder / name).write_bytes(b"no header")
    assert not any("no weights" in note for note in planned(tmp_path, folder).notes)


def test_weights_are_counted_as_they_would_be_stored(seven_billion):
    model = planned_model(seven_billion, 20, None)
    full, half = (model.sizes(GPU_GRAPHS, precision, None, 32) for precision in ("fp32", "bf16"))
    assert full.held_bytes == 2 * half.held_bytes
    assert half.read_bytes == pytest.approx(2 * (6.476e9 + 4096 * 156032), rel=0.001)
    int8, int4 = (model.sizes(GPU_GRAPHS, "bf16", name, 32) for name in ("int8", "int4"))
    assert int8.read_bytes == pytest.approx((0.5 + 1 / 64) * half.read_bytes, rel=0.01)  # scales of 64 inputs
    assert int4.read_bytes < 0.75 * int8.read_bytes
    assert model.sizes(GPU_GRAPHS, "bf16", "int4", 128).read_bytes < 0.95 * int4.read_bytes


@pytest.mark.parametrize(("quantize", "block", "measured"), [("int4", 128, 13.5e9), ("int8", 32, 22.1e9)])
def test_a_cpu_holds_the_packed_matrices_of_both_sessions(seven_billion, quantize, block, measured):
    """The largest resident set was measured (docs/performance.md), libraries and a request among it."""
    sizes = planned_model(seven_billion, 20, None).sizes(CPU_GRAPHS, "fp32", quantize, block)
    assert sizes.loading_bytes == pytest.approx(measured, rel=0.05)
    assert sizes.loading_bytes - sizes.held_bytes == sizes.read_bytes
    assert sizes.held_bytes < 0.7 * measured


def test_an_embedding_stays_in_the_16_bits_that_the_settings_name(seven_billion, tmp_path):
    settings = json.loads((seven_billion / "config.json").read_text("utf-8"))
    for dtype, bytes_ in (("bfloat16", 2), ("float32", 4)):
        (tmp_path / "config.json").write_text(json.dumps({**settings, "torch_dtype": dtype}), "utf-8")
        spec = quantized(planned_model(tmp_path, 20, None).spec, "int8")
        stored = stored_in(spec.decoder.embedding, FP32)
        assert stored.item_bytes == bytes_


def test_times_of_a_model_that_does_not_fit_are_not_shown(seven_billion, tmp_path):
    args = seven_billion, "--device", "t4", "--audio-seconds", 30, "--profile", "full", "--beams", 1
    said = plan(*args).output
    assert re.search(r"full +1 +- +- +- +- +[\d.]+ MB +0", said)
    assert "- and 0: the model, or its request, does not fit into the memory." in " ".join(said.split())
    assert "t4: break-even" not in said
    fits = plan(*args, "--quantize", "int4").output
    assert "t4: break-even" not in fits  # full has none beside itself
    assert "t4: break-even" in plan(*args, "--quantize", "int4", "--profile", "dense-constant-50").output
    assert not re.search(r"full +1 +-", fits)
    assert planned(tmp_path, *args).cases[0].total_ms  # the file keeps them


def test_a_plan_says_at_which_rate_fewer_bits_are_multiplied(seven_billion):
    for precision in ("fp32", "fp16"):
        said = " ".join(plan(seven_billion, "--quantize", "int8", "--precision", precision).output.split())
        assert f"products at the rate of {precision} (assumed)" in said


def test_a_profile_whose_lengths_depend_on_the_audio_has_a_batch_that_fits_and_a_note(
    seven_billion, tmp_path
):
    pairs, fixed = (tmp_path / f"{name}.toml" for name in ("pairs", "fixed"))
    for path, method in ((pairs, "a_tome"), (fixed, "uniform_merge")):
        path.write_text(f'method = "{method}"\nschedule = "input"\nratio = 0.5\n', "utf-8")
    args = seven_billion, "--device", "a100", "--audio-seconds", 120, "--beams", 1
    found = planned(tmp_path, *args, "--profile", f"full,{fixed},{pairs}")
    full, least, most = found.cases
    assert least.total_ms == most.total_ms
    assert full.largest_batch < most.largest_batch < least.largest_batch
    assert most.kv_bytes == pytest.approx((full.kv_bytes + least.kv_bytes) / 2, rel=0.001)
    assert any(note.startswith("What pairs leaves depends on the audio") for note in found.notes)
    assert not any("depends on the audio" in note for note in planned(tmp_path, *args).notes)


def test_every_number_that_times_rest_on_has_a_source(seven_billion, tmp_path):
    found = planned(tmp_path, seven_billion, "--published")
    figures = (*found.efficiencies, *found.published_efficiencies)
    kinds = ("measured", "derived", "fitted", "assumed")
    assert all(figure.source.startswith(kinds) for figure in figures)
    said = " ".join(plan(seven_billion).output.split())
    assert all(word in said for word in ("assumed:", "derived:", "NVIDIA A100"))


def test_a_batch_is_what_fits_beside_the_weights(seven_billion):
    dims = planned_model(seven_billion, 20, None).spec.decoder.dims
    for held, loading, batch in ((50.0, 50.0, 4), (90.0, 90.0, 0), (50.0, 80.0, 4), (50.0, 91.0, 0)):
        assert largest_batch(100.0, Sizes(dims, 0.0, held, loading, 2), 10.0) == batch


def test_what_the_positions_do_not_hold_is_skipped_with_the_reason(seven_billion, tmp_path):
    found = planned(tmp_path, seven_billion, "--audio-seconds", "30,400")
    skipped = [case for case in found.cases if case.skipped]
    assert {case.audio_seconds for case in skipped} == {400.0}
    assert skipped[0].skipped == "10084 rows with the answer, 8192 positions (--max-positions)"
    longer = planned(tmp_path, seven_billion, "--audio-seconds", "400", "--max-positions", 16384)
    assert not any(case.skipped for case in longer.cases)
    assert "Positions beyond 8192 are extrapolated by the model." in longer.notes


def test_audio_that_the_processor_does_not_take_is_skipped_however_many_positions_there_are(tmp_path):
    TINY["audioflamingo3"].save(tmp_path / "short")  # 6 s, in 1024 positions
    short = (tmp_path / "short", "--profile", "full", "--beams", 1)
    found = planned(tmp_path, *short, "--audio-seconds", "6,7")
    assert [case.skipped for case in found.cases] == [None, "the model hears 6 s at once"]
    longer = planned(tmp_path, *short, "--audio-seconds", "7", "--max-positions", 16384, exit_code=1)
    assert [case.skipped for case in longer.cases] == ["the model hears 6 s at once"]
    said = plan(*short, "--audio-seconds", "7").stderr
    assert said == "nothing was predicted: every length of audio was skipped, for the reasons above\n"


def test_lengths_of_hours_are_shown_as_whole_seconds(tmp_path, seven_billion):
    said = plan(seven_billion, "--profile", "dense-constant-50", "--max-positions", 262144).output
    assert re.search(r"profile +beams +1 s .* 10\d00 s +pays", said)


def test_a_profile_pays_from_some_length_on_where_reductions_cost_time(seven_billion, tmp_path):
    found = planned(tmp_path, seven_billion, "--device", "a100", "--profile", "dense-constant-50")
    assert found.break_even
    for each in found.break_even:
        assert each.speedups[0] < 1 < each.speedups[-1]
        begin = float(each.pays.removeprefix("from ").removesuffix(" s on"))
        for length, speedup in zip(each.audio_seconds, each.speedups, strict=True):
            assert (speedup > 1) == (length >= begin)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--device", "a100,b200,x"), "device 'b200', 'x' is unknown; choose a100, h100, l40s, l4, t4, cpu"),
        (("--device", "t4", "--precision", "bf16"), "the NVIDIA T4 has none; choose fp16 or fp32"),
        (("--device", "cpu", "--precision", "fp16"), "ONNX Runtime computes in fp32 there; leave it out"),
        (("--audio-seconds", "0"), "Error: --audio-seconds is 0: give a number above 0"),
        (("--audio-seconds", "nan"), "--audio-seconds is nan: give a number above 0"),
        (("--beams", "0"), "--beams is 0: give a whole number of at least 1"),
        (("--new-tokens", "1"), "--new-tokens is 1: give a whole number of at least 2"),
        (("--max-positions", "8192"), "--max-positions 8192: the checkpoint has 8192 by itself; give more"),
        (("--profile", "sparse-51"), "sparse-51"),
        (("--calibrate", "missing.json"), "missing.json: No such file"),
        (("--int4-block", "64"), "--int4-block 64: it is for quantize int4; leave it out, or give quantize"),
    ],
)
def test_wrong_values_are_refused_with_the_remedy(seven_billion, args, words):
    assert words in refusal(seven_billion, *args)


def test_the_cpu_of_this_machine_is_measured(seven_billion, tmp_path, monkeypatch):
    monkeypatch.setattr(cpu, "SECONDS", 0.0)
    for quantize in ((), ("--quantize", "int8"), ("--quantize", "int4", "--int4-block", "128")):
        found = planned(tmp_path, seven_billion, "--device", "cpu", *quantize)
        (device,) = found.devices
        assert device.precision == "fp32"
        assert 1e9 < device.flops_a_second < 1e15
        assert 1e8 < device.bytes_a_second < 1e13
        assert device.source.startswith("measured")
        fitted = "assumed: as" if quantize else "measured: fitted to"
        assert all(it.source.startswith(fitted) for it in found.efficiencies if it.name != "memory_share")


# Calibration


@pytest.fixture
def times(seven_billion):
    """The times of a GPU that is not as the table says."""
    profiles = tuple(map(load_profile, ("full", "dense-constant-50")))
    options, model = PlanOptions(profiles), planned_model(seven_billion, 20, None)
    gpu, cases = target("a100", model, options), list[Case]()
    gpu = replace(
        gpu, table={name: replace(gpu.table[name], value=value) for name, value in vars(TRUE).items()}
    )
    for profile in profiles:
        resolved = model.resolve(profile)
        for seconds in (30.0, 120.0, 240.0):
            for beams in (1, 5):
                asked = model.request(resolved, seconds, beams)
                figures = {"prefill_ms": gpu.prefill_ms(asked), "step_ms": gpu.step_ms(asked, 64)}
                spreads = {name: Spread(value) for name, value in figures.items()}
                cases.append(Case(beams, seconds, profile.name, 1, None, spreads))
    protocol = BenchmarkProtocol(
        ("full", "dense-constant-50"), (1, 5), (30.0,), None, None, 64, 1, 1, 0, "noise", "run"
    )
    artifact = {
        "family": model.spec.family,
        "precision": "bf16",
        "device": "CUDAExecutionProvider, CPUExecutionProvider",
        "ratios": {profile.name: str(model.resolve(profile).ratio) for profile in profiles},
    }
    return Benchmark(artifact, protocol, environment(1), tuple(cases))


def written(tmp_path, found) -> str:
    (tmp_path / "bench.json").write_text(result_text(found), "utf-8")
    return str(tmp_path / "bench.json")


def test_a_file_of_bench_gives_back_the_efficiencies_that_made_it(seven_billion, times, tmp_path):
    found = planned(tmp_path, seven_billion, "--calibrate", written(tmp_path, times))
    values = {each.name: each for each in found.efficiencies}
    assert values["compute"].value == pytest.approx(TRUE.compute, rel=0.02)
    assert values["memory"].value == pytest.approx(TRUE.memory, rel=0.02)
    assert values["compute"].source == "fitted to bench.json"
    assert len(found.calibration) == 24
    assert max(abs(each.error) for each in found.calibration) < 0.01
    assert max(abs(each.error_before) for each in found.calibration) > 0.1
    case = next(case for case in times.results if case.label == "5 beams, 120 s, full")
    predicted = next(it for it in found.cases if (it.beams, it.audio_seconds, it.profile) == (5, 120, "full"))
    assert predicted.prefill_ms == pytest.approx(case.median("prefill_ms"), rel=0.01)


def test_the_error_against_the_file_is_printed(seven_billion, times, tmp_path):
    said = " ".join(plan(seven_billion, "--calibrate", written(tmp_path, times)).output.split())
    assert "before the fit: mean error" in said
    assert "after it: mean error 0 %, largest" in said


@pytest.mark.parametrize(
    ("change", "args", "words"),
    [
        ({"family": "other"}, (), "bench.json is of another model than the checkpoint: family 'other'"),
        ({"ratios": {"full": "0", "dense-constant-50": "1/2"}}, (), "other ratios of dense-constant-50"),
        ({"device": "CPUExecutionProvider"}, (), "measured on CPUExecutionProvider: plan for --device cpu"),
        (
            {"device": "cpu"},
            (),
            "measured on cpu: graphs for onnxruntime-cuda, which no device of a plan runs",
        ),
        ({}, ("--device", "a100,h100"), "CPUExecutionProvider: plan for the one GPU that it is"),
        ({"precision": "fp16"}, (), "bench.json is of fp16, the plan for bf16: give --precision"),
        ({}, ("--quantize", "int8"), "bench.json is of bf16, the plan for bf16 with int8 weights"),
    ],
)
def test_times_of_something_else_are_refused(seven_billion, times, tmp_path, change, args, words):
    other = replace(times, artifact={**times.artifact, **change})
    assert words in refusal(seven_billion, "--calibrate", written(tmp_path, other), *args)


def test_a_file_of_another_command_is_refused(seven_billion, tmp_path):
    planned(tmp_path, seven_billion)
    assert "is a file of plan" in refusal(seven_billion, "--calibrate", tmp_path / "plan.json")


# Real settings


@pytest.mark.skipif(not REAL_FILES.is_dir(), reason="real settings do not lie beside the clone")
@pytest.mark.parametrize("name", ["qwen2_audio", "qwen_audio", "wavllm"])
def test_the_real_models_of_7b_are_planned_from_their_settings(name, tmp_path):
    folder = REAL_FILES / name
    if name == "wavllm":
        folder = tmp_path / name
        folder.mkdir()
        config = json.loads((REAL_FILES.parent / "spec" / "wavllm_7b_config.json").read_text("utf-8"))
        (folder / "config.json").write_text(json.dumps(config), "utf-8")
    found = planned(tmp_path, folder, "--audio-seconds", "30,120")
    assert all(case.total_ms for case in found.cases)
    assert found.devices[0].weight_bytes == pytest.approx(16e9, rel=0.07)
