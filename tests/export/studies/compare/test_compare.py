"""`compare` on the demo: cells, marks, failures, resumption; never how good the model is today."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from demo_files import DEMO
from fastadasp.evaluation import EvalOptions, evaluate, read_clips
from fastadasp.evaluation.answers.work_folder import work_folder_of
from fastadasp.evaluation.metrics.word_errors import DETAILS
from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.cli import main
from fastadasp.export.model.families.family import load_model
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.export.studies.compare import formats
from fastadasp.export.studies.compare.comparison import compare
from fastadasp.export.studies.compare.grid import comparison_grid
from fastadasp.export.studies.compare.options import CompareOptions
from fastadasp.export.studies.compare.table import comparison_sections
from fastadasp.export.studies.reference_request import mean_request
from fastadasp.profiles.profile import load_profile
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.runtime_options import runtime_options

HELD = Path(__file__).parents[3] / "held_command.py"
METHODS = "weighted_merge", "random_merge", "a_tome", "h2o"
LEVELS = 20, 60
GRID = ("--methods", ",".join(METHODS), "--schedules", "constant", "--flops", ",".join(map(str, LEVELS)))
SMALL = ("--methods", "weighted_merge", "--schedules", "constant", "--flops", 30)


def arguments(manifest: Path, *args: object, task: str = "asr") -> list[str]:
    fixed = ("--task", task, "--prompt", "<asr>", "--resamples", 200)
    return [str(arg) for arg in ("compare", DEMO / "model", "--manifest", manifest, *fixed, *args)]


def run_compare(manifest: Path, *args: object, task: str = "asr") -> Result:
    """`compare` within this process; whatever is no exit is raised."""
    result = CliRunner().invoke(main, arguments(manifest, *args, task=task), env={"COLUMNS": "120"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def results(path: Path) -> dict:
    """A result file without what tells of the machine, the moment and the command."""
    content = json.loads(path.read_text("utf-8"))
    assert content.pop("environment")["libraries"]["jiwer"]
    assert content.pop("command").startswith("fastadasp-export compare ")
    cells = [cell for row in content["rows"] for cell in row["cells"]]
    for entry in (content["full"], *cells):
        for name in ("prefill_ms", "decode_ms", "step_ms", "peak_bytes"):
            del entry[name]
    return content


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Three clips of the demo and their manifest, which no test changes."""
    folder = tmp_path_factory.mktemp("clips")
    lines = (DEMO / "clips" / "transcripts.jsonl").read_text("utf-8").splitlines()
    lines = [line for line in lines if '"asr"' in line][:3]
    for line in lines:
        shutil.copy(DEMO / "clips" / json.loads(line)["audio"], folder)
    (folder / "clips.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    return folder / "clips.jsonl"


@pytest.fixture(scope="module")
def compared(clips, tmp_path_factory):
    """Table and results of a grid of four methods."""
    output = tmp_path_factory.mktemp("compared") / "compare.json"
    result = run_compare(clips, *GRID, "-o", output)
    assert result.exit_code == 0, result.output
    assert not work_folder_of(output).exists()
    return result.stdout, json.loads(output.read_text("utf-8"))


def rows_of(found: dict) -> dict:
    return {row["method"]: row["cells"] for row in found["rows"]}


# Cells


def test_a_cell_is_what_eval_finds_under_its_profile(clips, compared, tmp_path):
    _, found = compared
    model = load_model(checkpoint := Checkpoint(DEMO / "model"))
    read = read_clips(clips, "asr", prompt="<asr>")
    levels = tuple(Fraction(level, 100) for level in LEVELS)
    options = CompareOptions(("weighted_merge", "a_tome"), ("constant",), levels)
    grid = comparison_grid(model, options, mean_request(checkpoint, model, read.clips))
    profiles = [cell.profiles[0] for row in grid for cell in row.cells]
    build(DEMO / "model", tmp_path / "artifact", BuildOptions((load_profile("full"), *profiles)))
    full, *expected = evaluate(tmp_path / "artifact", read, EvalOptions(resamples=200)).profiles
    cells = [found["full"], *(cell for row in found["rows"][::2] for cell in row["cells"])]
    for scores, cell in zip((full, *expected), cells, strict=True):
        assert cell["kept_ratio"] == pytest.approx(scores.kept_ratio)
        for figure in scores.figures:
            shown = cell["figures"][figure.metric.name]
            assert shown["value"] == pytest.approx(figure.value)
            assert [shown["low"], shown["high"]] == pytest.approx([figure.interval.low, figure.interval.high])
            if scores is not full:
                change = figure.delta
                assert list(shown["delta"].values()) == pytest.approx(
                    [change.value, change.interval.low, change.interval.high, change.p_value]
                )


def test_levels_are_solved_at_the_mean_length_of_the_clips(clips, compared):
    table, found = compared
    model = load_model(checkpoint := Checkpoint(DEMO / "model"))
    mean = mean_request(checkpoint, model, read_clips(clips, "asr", prompt="<asr>").clips)
    protocol = found["protocol"]
    assert protocol["reference_audio_seconds"] == float(mean.audio_seconds)
    assert (protocol["reference_audio_rows"], protocol["reference_text_rows"]) == (
        mean.audio_tokens,
        mean.text_rows,
    )
    assert f"solved for {float(mean.audio_seconds):g} s of audio, {mean.audio_tokens} rows" in " ".join(
        table.split()
    )
    for level, cell in zip(LEVELS, rows_of(found)["weighted_merge"], strict=True):
        assert abs(100 * cell["flops_reduction"] - level) < 3


def test_the_file_says_of_every_cell_what_it_is_and_what_it_kept(compared):
    _, found = compared
    assert (found["kind"], found["task"], found["levels"]) == ("compare", "asr", ["1/5", "3/5"])
    assert (found["clips"]["count"], found["clips"]["measured"]) == (3, 3)
    rates = ["wer", "cer"]
    assert [metric["name"] for metric in found["metrics"]] == [*rates, *(detail.name for detail in DETAILS)]
    assert [row["method"] for row in found["rows"]] == list(METHODS)
    layers = found["checkpoint"]["dims"]["num_layers"]
    rows = found["full"]["layer_rows"]
    assert len(set(rows)) == 1
    for row in found["rows"]:
        for level, cell in zip(LEVELS, row["cells"], strict=True):
            assert Fraction(cell["level"]) == Fraction(level, 100)
            assert len(cell["layer_rows"]) == layers
            assert cell["kept_ratio"] == pytest.approx(sum(cell["layer_rows"]) / sum(rows), abs=0.02)
            assert cell["prefill_ms"] > 0
            assert cell["decode_ms"] >= 0


def test_random_methods_are_the_mean_over_their_seeds(compared):
    _, found = compared
    for cell in rows_of(found)["random_merge"]:
        assert cell["seeds"] == [0, 1, 2]
        assert len(cell["profiles"]) == 3
        for figure in cell["figures"].values():
            assert figure["value"] == pytest.approx(sum(figure["seeds"]) / 3)
    for cell in rows_of(found)["weighted_merge"]:
        assert cell["seeds"] == []
        assert {len(figure["seeds"]) for figure in cell["figures"].values()} == {1}


def test_a_level_that_is_not_met_says_so_in_the_cell_and_in_the_file(compared):
    table, found = compared
    pairs = rows_of(found)["a_tome"][-1]
    removed = 100 * pairs["flops_reduction"]
    assert removed < LEVELS[-1] - 1
    assert pairs["unmet"].startswith(f"removes {removed:.1f} %: merges in pairs")
    assert f"at {removed:.0f} %" in table
    assert "A-ToMe merges in pairs" in table


def test_h2o_removes_no_flops_and_keeps_what_the_merge_of_its_column_keeps(compared):
    table, found = compared
    rows = rows_of(found)
    for ours, merge in zip(rows["h2o"], rows["weighted_merge"], strict=True):
        assert ours["flops_reduction"] == 0
        assert ours["unmet"].startswith("removes no prefill FLOPs; its caches keep as many audio rows as")
        assert ours["kept_ratio"] == pytest.approx(merge["kept_ratio"], abs=0.03)
    assert "H2O removes no prefill FLOPs" in table


def test_caches_that_keep_other_rows_than_their_budget_are_marked(clips, tmp_path):
    grid = ("--methods", "weighted_merge,h2o", "--schedules", "constant", "--flops", 30)
    marks = {}
    for seconds in (1, 30):
        output = tmp_path / f"{seconds}.json"
        result = run_compare(
            clips, *grid, "--reference-seconds", seconds, "--max-new-tokens", 2, "-o", output
        )
        assert result.exit_code == 0, result.output
        (merge,), (ours,) = rows_of(results(output)).values()
        off = abs(ours["kept_ratio"] - merge["kept_ratio"]) > 0.01
        mark, said = (f"{100 * cell['kept_ratio']:.1f} %" for cell in (ours, merge))
        assert (f"keeps {mark}" in result.stdout) == off
        assert (f"here {mark} for {said}" in ours["unmet"]) == off
        marks[seconds] = off
    assert any(marks.values())


def test_the_table_marks_what_differs_from_the_full_model(compared):
    table, found = compared
    assert max(map(len, table.splitlines())) <= 120
    start, end = table.index("WER %"), table.index("CER %")
    lines = {line.split("  ")[0]: line for line in table[start:end].splitlines()}
    assert f"full model {100 * found['full']['figures']['wer']['value']:.2f}" in table
    for row in found["rows"]:
        for cell in row["cells"]:
            figure = cell["figures"]["wer"]
            differs = not figure["delta"]["low"] <= 0 <= figure["delta"]["high"]
            text = f"{100 * figure['value']:.2f}" + "*" * differs
            assert text in lines[row["label"]].split()
    assert "*: the 95 % interval of the difference from the full model excludes 0" in table
    assert "±: standard deviation over 3 seeds" in table


def test_clips_of_one_recording_are_drawn_together(clips, tmp_path):
    first = json.loads(clips.read_text("utf-8").splitlines()[0])
    twice = clips.with_name("twice.jsonl")
    twice.write_text("".join(json.dumps({**first, "id": str(i)}) + "\n" for i in range(2)), "utf-8")
    result = run_compare(twice, *SMALL, "-o", tmp_path / "compare.json")
    found = results(tmp_path / "compare.json")
    assert found["clips"]["measured"] == 2
    assert found["full"]["figures"]["wer"]["low"] is None
    assert "One recording has no interval: give more." in result.stdout


def test_intervals_are_shown_when_asked_for(clips, tmp_path):
    output = tmp_path / "compare.json"
    table = run_compare(clips, *SMALL, "--intervals", "-o", output).stdout
    figure = rows_of(results(output))["weighted_merge"][0]["figures"]["wer"]
    assert f"{100 * figure['low']:.2f} to {100 * figure['high']:.2f}" in table
    assert "±" not in table
    assert "H2O" not in table


def test_with_both_kinds_of_positions_kept_ones_are_compared_with_compact_ones(clips, tmp_path):
    both = ("--methods", "random_merge,h2o", "--schedules", "constant", "--flops", "60", "--seeds", 2)
    options = (*both, "--positions", "compact,kept", "--token-loss", "--at-once", 8)
    table = run_compare(clips, *options, "-o", tmp_path / "compare.json").stdout
    compact, kept, h2o = results(tmp_path / "compare.json")["rows"]
    assert [row["positions"] for row in (compact, kept, h2o)] == ["compact", "kept", ""]
    assert "random merge, kept, constant" in table
    assert "WER %, kept positions less compact ones" in table
    (cell,), (twin,), (caches,) = kept["cells"], compact["cells"], h2o["cells"]
    assert twin["from_compact"] == caches["from_compact"] == {}
    for name in ("wer", "token_loss"):
        change, delta = cell["from_compact"][name], cell["figures"][name]["delta"]
        assert change["value"] == pytest.approx(
            cell["figures"][name]["value"] - twin["figures"][name]["value"]
        )
        assert change["low"] <= change["value"] <= change["high"]
        assert change != delta
    assert cell["figures"]["token_loss"]["value"] < twin["figures"]["token_loss"]["value"]
    assert cell["cut_off"] == 0.0


def test_kept_positions_change_answers_and_no_cost(clips, compared, tmp_path):
    levels = ("--flops", ",".join(map(str, LEVELS)))
    options = (*SMALL[:4], *levels, "--positions", "kept", "-o", tmp_path / "compare.json")
    table = " ".join(run_compare(clips, *options).stdout.split())
    found = results(tmp_path / "compare.json")
    assert "from layer 2 on; positions kept" in table
    assert [each["protocol"]["positions"] for each in (found, compared[1])] == [["kept"], ["compact"]]
    kept, compact = (rows_of(each)["weighted_merge"] for each in (found, compared[1]))
    for mine, theirs in zip(kept, compact, strict=True):
        assert mine["layer_rows"] == theirs["layer_rows"]
        assert mine["flops_reduction"] == theirs["flops_reduction"]
    assert kept[1]["figures"]["wer"] != compact[1]["figures"]["wer"]


def test_an_infeasible_level_is_a_cell_and_not_an_error(clips, tmp_path):
    output = tmp_path / "compare.json"
    options = ("--methods", "weighted_merge", "--schedules", "single", "--start-layer", 6, "--flops", "5,90")
    result = run_compare(clips, *options, "-o", output)
    assert result.exit_code == 0
    met, unmet = results(output)["rows"][0]["cells"]
    assert met["figures"]
    assert (unmet["profiles"], unmet["figures"], unmet["layer_rows"]) == ([], {}, [])
    assert (unmet["flops_reduction"], unmet["kept_ratio"]) == (None, None)
    assert unmet["unmet"].startswith("infeasible, at most ")
    assert "at most: all that the schedule can remove if it begins at layer 6." in result.stdout


def test_a_schedule_that_cannot_start_at_the_last_layer_is_a_row_and_not_an_error(clips, tmp_path):
    output, rows = tmp_path / "compare.json", ("--schedules", "single,decay,input", "--start-layer", 11)
    methods = ("--methods", "weighted_merge,uniform_merge", "--flops", 1)
    result = run_compare(clips, *methods, *rows, "-o", output)
    assert result.exit_code == 0
    found, told = results(output)["rows"], " ".join(result.stdout.split())
    reasons = {
        "single": "schedule 'single' cannot start at the last layer, 11, where nothing is saved: ",
        "decay": "schedule 'decay' cannot start at the last layer, 11: ",
        "input": None,
    }
    assert {row["schedule"] for row in found} == {*reasons}
    for row in found:
        (cell,), reason = row["cells"], reasons[row["schedule"]]
        assert bool(cell["figures"]) == (reason is None)
        assert cell["unmet"].startswith(reason) if reason else cell["unmet"] is None
    assert all(told.count(f"-: {reason}") == 1 for reason in reasons.values() if reason)
    assert re.search(r"^FastAdaSP, single +- *$", result.stdout, re.MULTILINE)


def test_workers_change_no_figure_and_have_no_latency(clips, compared, tmp_path):
    output = tmp_path / "compare.json"
    result = run_compare(clips, *GRID, "--workers", 2, "-o", output)
    table, found = compared
    again = json.loads(output.read_text("utf-8"))
    assert result.stdout == table
    for row, other in zip(again["rows"], found["rows"], strict=True):
        for cell, twin in zip(row["cells"], other["cells"], strict=True):
            assert (cell["prefill_ms"], cell["decode_ms"]) == (None, None)
            assert cell["figures"] == twin["figures"]


# Weight formats


@pytest.fixture(scope="module")
def in_formats(clips, tmp_path_factory):
    """Table and results of one method with three weight formats, and the artifact of each answer in turn."""
    output, turns, encode = tmp_path_factory.mktemp("formats") / "compare.json", [], SpeechLM.encode

    def noted(model, audio, **options):
        turns.append(model.artifact.manifest.graphs["onnxruntime"].quantized)
        return encode(model, audio, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SpeechLM, "encode", noted)
        result = run_compare(clips, *SMALL, "--quantize", "none,int8", "--quantize", "int4", "-o", output)
    assert result.exit_code == 0, result.output
    return result.stdout, json.loads(output.read_text("utf-8")), turns


def test_every_row_is_there_in_every_format(in_formats, tmp_path):
    table, found, _ = in_formats
    assert [(row["label"], row["quantized"]) for row in found["rows"]] == [
        ("FastAdaSP, constant", None),
        ("full model, int8", "int8"),
        ("FastAdaSP, constant, int8", "int8"),
        ("full model, int4", "int4"),
        ("FastAdaSP, constant, int4", "int4"),
    ]
    assert [record["quantized"] for record in found["formats"]] == [None, "int8", "int4"]
    sizes = [record["weight_bytes"] for record in found["formats"]]
    assert sizes[0] > 2.5 * sizes[1] > 2.5 * sizes[2]
    for row in found["rows"]:
        assert row["label"] in table


def test_the_artifact_of_a_format_is_what_build_makes(in_formats, clips, tmp_path):
    _, found, _ = in_formats
    model = load_model(checkpoint := Checkpoint(DEMO / "model"))
    options = CompareOptions(("weighted_merge",), ("constant",), (Fraction(3, 10),))
    reference = mean_request(checkpoint, model, read_clips(clips, "asr", prompt="<asr>").clips)
    (row,) = comparison_grid(model, options, reference)
    profiles = (load_profile("full"), *row.cells[0].profiles)
    manifest = build(DEMO / "model", tmp_path / "int4", BuildOptions(profiles, quantize="int4"))
    assert found["formats"][2]["artifact"] == manifest.digest


def test_a_difference_from_float32_is_that_of_the_same_profile(in_formats):
    table, found, _ = in_formats
    cells = {row["label"]: row["cells"][0] for row in found["rows"]} | {"full model": found["full"]}
    for label, cell in cells.items():
        original = cells[label.removesuffix(", int8").removesuffix(", int4")]
        if cell is original:
            assert cell["from_float32"] == {}
            continue
        for name, figure in cell["figures"].items():
            change = cell["from_float32"][name]
            assert change["value"] == pytest.approx(figure["value"] - original["figures"][name]["value"])
            assert change["low"] <= change["value"] <= change["high"]
    assert "differences from float32 weights are of the same profile" in found["intervals"]["method"]
    assert "delta: less that of float32 weights under the same profile" in " ".join(table.split())


def test_formats_have_times_of_answers_in_turn_and_the_memory_of_a_request(in_formats):
    table, found, turns = in_formats
    assert turns == [None, "int8", "int4"] * 3
    for cell in (found["full"], *(row["cells"][0] for row in found["rows"])):
        assert cell["step_ms"] > 0
        assert cell["peak_bytes"] > 10_000_000
    assert found["memory"].startswith("resident memory at its largest of a process of its own")
    assert "Weights: time and memory" in table


def test_one_format_measures_no_memory_and_compares_no_formats(compared):
    table, found = compared
    assert found["memory"] is None
    assert [record["quantized"] for record in found["formats"]] == [None]
    assert {cell["peak_bytes"] for row in found["rows"] for cell in row["cells"]} == {None}
    assert "Weights" not in table


def test_the_full_model_may_be_compared_in_formats_alone(clips, tmp_path):
    output = tmp_path / "compare.json"
    options = ("--methods", "full", "--quantize", "int4,none", "-o", output)
    table = run_compare(clips, *options).stdout
    found = results(output)
    assert [(row["label"], row["cells"][0]["level"]) for row in found["rows"]] == [("full model", "0")]
    assert found["full"]["from_float32"]["wer"]["value"] == pytest.approx(
        found["full"]["figures"]["wer"]["value"] - found["rows"][0]["cells"][0]["figures"]["wer"]["value"]
    )
    assert found["levels"] == []
    assert "FLOPs removed" not in table
    assert "full model  int4" in table


def test_a_first_format_that_is_not_float32_is_named_and_has_no_difference_from_it(clips):
    table = " ".join(run_compare(clips, *SMALL, "--quantize", "int8,int4").stdout.split())
    assert "lower is better; full model, int8 " in table
    assert "answers cut off by max_new_tokens; full model, int8 " in table
    assert "no delta: it would be from float32 weights, which --quantize none adds" in table
    alone = run_compare(clips, *SMALL, "--quantize", "int8").stdout
    assert "lower is better; full model, int8 " in alone
    assert "Weights" not in alone


def test_both_kinds_of_positions_are_told_apart_in_every_format(clips):
    said = " ".join(
        run_compare(clips, *SMALL, "--positions", "compact,kept", "--quantize", "none,int8").stdout.split()
    )
    for positions in ("compact", "kept"):
        for weights in ("float32", "int8"):
            assert said.count(f"FastAdaSP, {positions}, constant, 30 % {weights}") == 3  # WER, CER, times


def test_a_comparison_of_formats_that_is_killed_goes_on(clips, tmp_path, monkeypatch):
    run = Run(clips, tmp_path / "compare.json", "--methods", "full", "--quantize", "none,int8")
    run.kill_after(4)
    journals = [path.read_bytes().splitlines() for path in run.work.glob("*.jsonl")]
    assert len(journals) == 2
    kept = sum(max(0, len(lines) - 1) for lines in journals)
    asked, encode = [], SpeechLM.encode

    def counted(model, audio, **options):
        asked.append(audio)
        return encode(model, audio, **options)

    monkeypatch.setattr(SpeechLM, "encode", counted)
    assert CliRunner().invoke(main, run.words).exit_code == 0
    assert len(asked) == 2 * 3 - kept < 2 * 3
    assert not run.work.exists()


# Failures


def test_a_clip_that_fails_is_listed_and_in_no_cell(clips, own_clips, tmp_path):
    run_compare(clips, *SMALL, "-o", tmp_path / "sound.json")
    (own_clips.parent / "noise.wav").write_bytes(b"no audio at all")
    noise = json.dumps({"audio": "noise.wav", "text": "one", "task": "asr"})
    own_clips.write_text(f"{noise}\n{own_clips.read_text('utf-8')}", "utf-8")
    result = run_compare(own_clips, *SMALL, "-o", tmp_path / "compare.json")
    found, sound = results(tmp_path / "compare.json"), results(tmp_path / "sound.json")
    assert result.exit_code == 1
    assert "1 of 4 clips failed: no figure counts them" in result.stdout
    (failure,) = found["failures"]
    assert (failure["id"], failure["line"]) == ("noise.wav", 1)
    assert failure["profiles"] == ["full", "weighted_merge-constant-30"]
    assert (found["rows"], found["full"]) == (sound["rows"], sound["full"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--quantize", "int8,int3"), "quantize int3 is unknown: choose some of none, int8, int4"),
        (("--quantize", "int8", "--engine", "tensorrt-rtx"), "No such option '--engine'"),
        (
            ("--methods", "full"),
            "methods full compares the full model with itself in other formats, and quan",
        ),
        (
            ("--methods", "full,fastv"),
            "method full is always there, for every figure is compared with it",
        ),
        (("--methods", "full,fastv", "--quantize", "none,int8"), "method full is always there"),
        (("--methods", "tome"), "method tome is unknown: choose all, or some of weighted_merge"),
        (
            ("--methods", "weighted_merge", "--schedules", "input"),
            "method weighted_merge has none of the schedules input: name single or constant or decay",
        ),
        (("--flops", "ten"), "'ten' is no list of percentages"),
        (("--flops", "0"), "0 is not between 0 and 100"),
        (("--start-layer", 99), "--start-layer 99 is out of range: this model has layers 0 to "),
        (("--seeds", 0, "--workers", 0), "workers is 0"),
        (("--reference-seconds", "-1"), "-1.0 is not in the range 0<x<=1000000.0"),
        (("-o", "none/compare.json"), "is no folder that can be written"),
    ],
)
def test_bad_options_are_one_line(clips, tmp_path, options, message):
    output = () if "-o" in options else ("-o", tmp_path / "compare.json")
    result = run_compare(clips, *output, *options)
    assert result.exit_code == 2
    assert message in result.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_a_reference_without_text_is_refused_before_anything_is_built(own_clips, tmp_path):
    audio = json.loads(own_clips.read_text("utf-8").splitlines()[0])["audio"]
    own_clips.write_text(json.dumps({"audio": audio, "label": "<happy>"}) + "\n", "utf-8")
    output = tmp_path / "compare.json"
    result = run_compare(own_clips, *SMALL, "-o", output, task="classify")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == f"  clip {audio}: '<happy>'"
    assert not work_folder_of(output).exists()


def test_a_method_that_was_named_and_has_no_row_is_told(clips):
    own = ("--methods", "fastv,affinity_pooling", "--schedules", "single", "--start-layer", 99)
    told = "no row for affinity_pooling: it needs --schedules input_and_single"
    assert told in run_compare(clips, *own).stderr
    assert told not in run_compare(clips, "--schedules", "single", "--start-layer", 99).stderr


# Resumption


class Run:
    """`compare` in a process of its own: by default sixteen profiles beside `full`, which are two groups."""

    GRID = ("--methods", "random_merge", "--schedules", "constant", "--flops", "20,40", "--seeds", 8)

    def __init__(self, manifest: Path, output: Path, *grid: object) -> None:
        self.output, self.work = output, work_folder_of(output)
        self.words = arguments(manifest, *(grid or self.GRID), "-o", output)

    def start(self, clips: int | None = None) -> subprocess.Popen[str]:
        """Begin it; with a number, it answers so many clips and no more."""
        program = ("-m", "fastadasp.export") if clips is None else (HELD, clips)
        command = [sys.executable, *map(str, program), *self.words]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def lines(self) -> int:
        return sum(path.read_bytes().count(b"\n") for path in self.work.glob("*.jsonl"))

    def kill_after(self, lines: int, pause: float = 0) -> None:
        """Start, and kill a little after the journals have so many lines: it cannot end before."""
        process = self.start(lines - self.lines())
        while self.lines() < lines and process.poll() is None:
            time.sleep(0.01)
        time.sleep(pause)
        process.kill()
        _, stderr = process.communicate()
        assert process.returncode == -signal.SIGKILL, stderr

    def finish(self) -> str:
        process = self.start()
        stdout, stderr = process.communicate()
        assert process.returncode == 0, stderr
        return stdout


def test_a_run_that_is_killed_goes_on_and_gives_the_same_table(clips, tmp_path):
    (tmp_path / "undisturbed").mkdir()
    undisturbed = Run(clips, tmp_path / "undisturbed" / "compare.json")
    table = undisturbed.finish()
    run, generator = Run(clips, tmp_path / "compare.json"), random.Random(7)
    # a journal is a line and three clips: within the first, between, within the second
    for lines in (2, 4, 6):
        run.kill_after(lines, generator.uniform(0, 0.1))
    assert run.work.is_dir()
    assert run.finish() == table
    assert results(run.output) == results(undisturbed.output)
    assert not run.work.exists()


def test_answers_that_were_kept_are_not_found_again(clips, tmp_path, monkeypatch):
    run = Run(clips, tmp_path / "compare.json")
    run.kill_after(3)
    journals = [path.read_bytes().splitlines() for path in run.work.glob("*.jsonl")]
    kept = sum(len(lines) - 1 for lines in journals if lines)  # the first one holds the settings
    asked, encode = [], SpeechLM.encode

    def counted(model, audio, **options):
        asked.append(audio)
        return encode(model, audio, **options)

    monkeypatch.setattr(SpeechLM, "encode", counted)
    assert CliRunner().invoke(main, run.words).exit_code == 0
    assert len(asked) == 2 * 3 - kept  # of two groups


ONE_THREAD = runtime_options(threads=1)


@pytest.mark.parametrize(
    ("first", "timed"),
    [
        (EvalOptions(runtime=ONE_THREAD), True),
        (EvalOptions(runtime=ONE_THREAD, workers=2), False),
        (EvalOptions(runtime=runtime_options(threads=2)), False),
    ],
)
def test_times_of_other_workers_or_threads_are_told_by_no_call_that_goes_on(
    clips, tmp_path, monkeypatch, first, timed
):
    """Of two groups of profiles, the first call has answered one."""
    monkeypatch.setattr(formats, "GROUP", 1)
    read = read_clips(clips, "asr", prompt="<asr>")
    levels = Fraction(1, 5), Fraction(2, 5)
    options = CompareOptions(("weighted_merge",), ("constant",), levels, evaluation=first)

    def stop(step: str, done: int, total: int) -> None:
        if (step, done) == ("answer clips", total // 2):
            raise InterruptedError

    with pytest.raises(InterruptedError):
        compare(DEMO / "model", read, options, tmp_path, stop)
    last = replace(options, evaluation=EvalOptions(runtime=ONE_THREAD))
    found = compare(DEMO / "model", read, last, tmp_path)
    for cell in (found.full, *(cell for _, results in found.rows for cell in results)):
        assert (cell.prefill_ms is not None) == (cell.decode_ms is not None) == timed
    assert found.timed == timed
    told = "No times: some answers were found with other --workers or --threads"
    assert any(told in part for part in comparison_sections(found) if isinstance(part, str)) == (not timed)


def test_answers_to_other_profiles_are_refused_until_restarted(clips, tmp_path):
    run = Run(clips, tmp_path / "compare.json")
    run.kill_after(2)
    other = (*SMALL, "-o", run.output)
    refused = run_compare(clips, *other)
    assert refused.exit_code == 2
    assert "was begun with other settings: artifact, profiles; go on with those" in refused.stderr
    assert run.work.is_dir()
    assert run_compare(clips, *other, "--restart").exit_code == 0
    assert not run.work.exists()


def test_two_runs_do_not_share_an_output(clips, tmp_path):
    run = Run(clips, tmp_path / "compare.json")
    process = run.start(1)
    while not run.lines() and process.poll() is None:
        time.sleep(0.01)
    second = run_compare(clips, *SMALL, "-o", run.output)
    process.kill()
    process.communicate()
    assert second.exit_code == 2
    assert "compare.json.work is in use by another run" in second.stderr
