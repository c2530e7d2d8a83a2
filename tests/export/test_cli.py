"""The command line, driven as a user drives it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.cli import main
from fastadasp.export.commands import parameters
from fastadasp.export.model.families.family import load_model
from fastadasp.export.model.fit import resolve_for
from fastadasp.export.options import BuildOptions
from fastadasp.export.studies import positions as positions_module
from fastadasp.profiles.flops import flops_reduction
from fastadasp.profiles.profile import builtin_names, load_profile, parse_profile
from fastadasp.profiles.schedule import removed
from fastadasp.runtime import SearchOptions, SpeechLM
from fastadasp.runtime.artifact.manifest import parse_manifest
from fastadasp.runtime.decoding.answer_sizes import AnswerSizes
from fastadasp.runtime.memory.bound import ModelSizes, request_memory
from fastadasp.runtime.tables.units import size
from tiny_families import TINY

NOT_IN_THE_CORE = ("torch", "transformers", "onnx", "onnx_ir", "safetensors")
COMMANDS = (
    "convert",
    "build",
    "run",
    "transcribe",
    "serve",
    "eval",
    "compare",
    "bench",
    "plan",
    "profiles",
    "select-layer",
    "tune",
    "report",
    "figures",
    "inspect",
    "check",
    "families",
    "export-triton",
    "plugins",
)


def call(*args: object, stdin: bytes | None = None) -> Result:
    """Run a command that must succeed."""
    result = CliRunner().invoke(main, [str(arg) for arg in args], input=stdin, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def python(code: str, *args: object) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own."""
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def without_the_extra(*args: object) -> subprocess.CompletedProcess[str]:
    """Run the command line where nothing but the core can be imported."""
    block = f"import sys; sys.modules.update(dict.fromkeys({NOT_IN_THE_CORE}))"
    return python(f"{block}; from fastadasp.export.cli import main; main()", *args)


# The group


def test_help_lists_the_commands_in_the_order_of_use() -> None:
    listed = re.findall(r"^  ([\w-]+)  ", call("--help").stdout.split("Commands:")[1], re.MULTILINE)
    assert tuple(listed) == COMMANDS


def test_the_list_of_commands_says_what_each_does_in_a_whole_line() -> None:
    lines = call("--help").stdout.split("Commands:\n")[1].splitlines()
    assert len(lines) == len(COMMANDS)
    assert all(line.endswith(".") and not line.endswith("..") for line in lines)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    assert "Usage: " in call(command, "--help").stdout


def test_help_imports_nothing_heavy() -> None:
    heavy = {*NOT_IN_THE_CORE, "numpy", "onnxruntime", "tokenizers", "blake3", "soundfile", "soxr", "rich"}
    shown = "print(sorted(sys.modules.keys() & set(sys.argv[1:])))"
    result = python(f"import sys, fastadasp.export.cli; {shown}", *heavy)
    assert result.stdout.strip() == "[]"


def test_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert version("fastadasp-export") in call("--version").stdout


def test_defaults_of_the_options_are_those_of_the_records() -> None:
    shown = {option.name: str(getattr(option, "help", None)) for option in main.commands["run"].params}
    options = SearchOptions().resolved()
    for name in ("num_beams", "max_new_tokens", "length_penalty"):
        assert shown[name].endswith(f"  [default: the artifact's, or {getattr(options, name)}]")
    assert f"[default: the artifact's, or {str(options.early_stopping).lower()}]" in shown["early_stopping"]
    for command, whose in (("eval", "artifact"), *((name, "checkpoint") for name in ("compare", "tune"))):
        said = {option.name: str(getattr(option, "help", None)) for option in main.commands[command].params}
        assert said["num_beams"].endswith(f"  [default: the {whose}'s, or {options.num_beams}]")
        assert said["eos_token_ids"].endswith(f"  [default: the {whose}'s]")
    weights = {option.name: option.default for option in main.commands["build"].params}["weights"]
    assert weights == BuildOptions.weights


# build


def test_build_makes_an_artifact_that_runs(tiny_checkpoint: Path, clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "art"
    result = call("build", tiny_checkpoint, "-o", output, "--profile", "full", "--profile", "dense-decay-10")
    assert re.fullmatch(rf"{output}: [\d.]+ MB, built in [\d.]+ s; weights hard-linked .*\n", result.stdout)
    assert "build graphs" in result.stderr
    assert SpeechLM.load(output).profiles == ("full", "dense-decay-10")
    assert (output / "weights/model.safetensors").samefile(tiny_checkpoint / "model.safetensors")


def test_build_copies_weights_when_asked(tiny_checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "art"
    result = call("build", tiny_checkpoint, "-o", output, "--profile", "full", "--weights", "copy")
    assert "weights copied" in result.stdout
    assert not (output / "weights/model.safetensors").samefile(tiny_checkpoint / "model.safetensors")


def test_force_replaces_an_artifact(tiny_checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "art"
    call("build", tiny_checkpoint, "-o", output, "--profile", "full")
    call("build", tiny_checkpoint, "-o", output, "--profile", "dense-decay-10", "--force")
    assert [path.name for path in tmp_path.iterdir()] == ["art"]
    assert SpeechLM.load(output).profiles == ("dense-decay-10",)


def test_profiles_are_found_in_a_folder_and_by_path(
    tiny_checkpoint: Path, tiny_profile_folder: Path, tmp_path: Path
) -> None:
    call("build", tiny_checkpoint, "-o", tmp_path / "a", "--profile", tiny_profile_folder / "own-30.toml")
    folder = ("--profiles-folder", tiny_profile_folder)
    call("build", tiny_checkpoint, "-o", tmp_path / "b", "--profile", "own-30", *folder)
    manifests = [(tmp_path / name / "manifest.json").read_text("utf-8") for name in "ab"]
    first, second = (parse_manifest(text, "manifest").profiles for text in manifests)
    assert first == second


# run


def test_run_prints_the_transcript_alone_to_stdout(tiny_artifact: Path, clip: Path) -> None:
    result = call("run", tiny_artifact, clip, "--prompt", "hello", "--beams", 3, "--max-new-tokens", 8)
    expected = SpeechLM.load(tiny_artifact).generate(clip, "hello", num_beams=3, max_new_tokens=8)
    assert result.stdout == f"{expected.text}\n"
    for figure in ("encoder", "prefill", "decode", "RTF", "tok/s", "audio rows kept", "KV cache"):
        assert figure in result.stderr
    assert f"{expected.latency.output_tokens} tokens of the hypothesis / decode latency" in result.stderr


def test_run_takes_every_search_option(tiny_artifact: Path, clip: Path) -> None:
    options = {
        "num_beams": 4,
        "max_new_tokens": 9,
        "min_new_tokens": 2,
        "length_penalty": 0.5,
        "early_stopping": "never",
        "repetition_penalty": 1.2,
        "no_repeat_ngram_size": 2,
        "num_return_sequences": 2,
    }
    flags = [
        part
        for name, value in options.items()
        for part in ("--beams" if name == "num_beams" else f"--{name.replace('_', '-')}", value)
    ]
    found = json.loads(call("run", tiny_artifact, clip, "--profile", "own-30", *flags, "--json").stdout)
    model = SpeechLM.load(tiny_artifact, "own-30")
    expected = model.generate(clip, **options)
    assert [tuple(h["tokens"]) for h in found["hypotheses"]] == [h.tokens for h in expected.hypotheses]
    assert found["profile"] == "own-30"


def test_run_with_json_prints_an_object_a_clip_with_all_figures(tiny_artifact: Path, clip: Path) -> None:
    options = ("--prompt", "hello", "--max-new-tokens", 4, "--json", "--lean", "--verify")
    result = call("run", tiny_artifact, clip, clip, *options)
    assert result.stderr == ""
    objects = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(objects) == 2
    for found in objects:
        assert found["clip"] == str(clip)
        assert found["audio_seconds"] == 3.0
        assert found["kept_ratio"] == 1.0
        assert found["kv_bytes"] > 0
        assert found["audio_rows"] + found["text_rows"] == found["prefix_lengths"][0]
        (hypothesis,) = found["hypotheses"]
        assert hypothesis.keys() == {"text", "tokens", "finished", "finish_reason", "score"}
        assert hypothesis["finish_reason"] == found["finish_reason"] == "length"
        assert hypothesis["finished"] is False
        assert hypothesis["text"] == found["text"]
        latency = found["latency"]
        assert latency["request_ms"] >= latency["prefill_ms"] + latency["decode_ms"]
        assert latency["rtf"] == pytest.approx(latency["request_ms"] / 3000)
        assert latency["step_ms"] == pytest.approx(latency["decode_ms"] / latency["steps"])


def test_run_with_several_clips_prints_a_line_and_a_row_a_clip(
    tiny_artifact: Path, clip: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copy(clip, tmp_path / "a-rather-long-name-that-needs-more-than-its-column.wav"))
    result = call("run", tiny_artifact, clip, other, "--max-new-tokens", 4, "--profile", "own-30")
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert [name for name, _ in lines] == [str(clip), str(other)]
    assert lines[0][1] == lines[1][1]
    folded = "".join(line.split(" ")[0] for line in result.stderr.splitlines())
    assert other.name in folded
    assert max(map(len, result.stderr.splitlines())) <= 80


def test_run_reads_a_clip_from_a_pipe(tiny_artifact: Path, clip: Path) -> None:
    options = ("--max-new-tokens", 4)
    piped = call("run", tiny_artifact, "-", *options, stdin=clip.read_bytes())
    assert piped.stdout == call("run", tiny_artifact, clip, *options).stdout


def test_run_streams_the_same_text(tiny_artifact: Path, clip: Path) -> None:
    options = ("--prompt", "hello", "--max-new-tokens", 12)
    streamed = call("run", tiny_artifact, clip, *options, "--stream")
    assert streamed.stdout == call("run", tiny_artifact, clip, *options).stdout
    assert "first text after" in streamed.stderr


def test_run_shows_all_returned_hypotheses(tiny_artifact: Path, clip: Path) -> None:
    options = ("--beams", 3, "--num-return-sequences", 3, "--max-new-tokens", 5)
    assert "3 hypotheses" in call("run", tiny_artifact, clip, *options).stderr


# bench


def test_bench_measures_every_combination(tiny_artifact: Path, clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    matrix = ("--beams", "1,3", "--audio-seconds", "2.5,5", "--profile", "own-30,full", "--clip", clip)
    result = call("bench", tiny_artifact, *matrix, *FEW_RUNS, "-o", output)
    found = json.loads(output.read_text("utf-8"))
    cases = [(case["audio_seconds"], case["beams"], case["profile"]) for case in found["results"]]
    assert cases == [(s, b, p) for s in (2.5, 5.0) for b in (1, 3) for p in ("own-30", "full")]
    for case in found["results"]:
        assert case["skipped"] is None
        assert case["runs"] >= 2
        assert case["kept_ratio"] == 1.0 if case["profile"] == "full" else case["kept_ratio"] < 1
        assert case["peak_rss_bytes"] > case["kv_bytes"] > 0
        for spread in case["figures"].values():
            assert spread["p10"] <= spread["median"] <= spread["p90"]
    assert "5 s of audio, 3 beams" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


FEW_RUNS = ("--runs", 2, "--warmup", 1, "--new-tokens", 4, "--threads", 1)


def test_bench_results_carry_their_environment_and_the_artifact(tiny_artifact: Path, tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    call("bench", tiny_artifact, "--beams", 1, "--audio-seconds", 2, *FEW_RUNS, "-o", output)
    found = json.loads(output.read_text("utf-8"))
    manifest = json.loads((tiny_artifact / "manifest.json").read_text("utf-8"))
    assert found["artifact"]["digest"] == manifest["digest"]
    assert found["artifact"]["ratios"]["own-30"] == "3/10"
    assert found["protocol"]["audio"] == "seeded noise"
    assert found["environment"]["threads"] == 1
    assert found["environment"]["libraries"]["onnxruntime"]
    assert {"time_utc", "cpu", "cores", "load_average", "platform"} <= found["environment"].keys()


def test_bench_generates_exactly_the_asked_number_of_tokens(tiny_artifact: Path, clip: Path) -> None:
    from fastadasp.runtime.benchmark.benchmark import run_benchmark
    from fastadasp.runtime.benchmark.options import BenchmarkOptions

    model, tokens = SpeechLM.load(tiny_artifact), []
    generate = model.generate

    def counted(*args: object, **options: object) -> object:
        result = generate(*args, **options)  # type: ignore[arg-type]
        tokens.append(result.latency.output_tokens)
        return result

    model.generate = counted  # type: ignore[method-assign,assignment]
    options = BenchmarkOptions(beams=(1, 4), audio_seconds=(2.0,), new_tokens=7, runs=1, warmup=0)
    run_benchmark(model, options)
    assert tokens == [7] * len(model.profiles) * 2


def test_bench_lists_combinations_that_the_positions_do_not_allow(
    tiny_artifact: Path, tmp_path: Path
) -> None:
    output = tmp_path / "results.json"
    result = call("bench", tiny_artifact, "--beams", 1, "--audio-seconds", "2,600", *FEW_RUNS, "-o", output)
    short, long = json.loads(output.read_text("utf-8"))["results"][::3]
    assert short["skipped"] is None
    assert long["runs"] == 0
    assert long["figures"] is None
    assert long["peak_rss_bytes"] is None
    assert "600.0 s take 15000 rows" in long["skipped"]
    assert "600 s of audio, 1 beam: skipped: " in result.stdout


def test_bench_that_measures_nothing_exits_with_1_and_a_reason(tiny_artifact: Path, tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    words = ["bench", tiny_artifact, "--beams", 1, "--audio-seconds", "600,700", *FEW_RUNS, "-o", output]
    result = CliRunner().invoke(main, list(map(str, words)))
    assert result.exit_code == 1
    assert "600.0 s take 15000 rows" in result.stdout
    assert "nothing was measured: every length of audio was skipped" in result.stderr
    assert all(case["skipped"] for case in json.loads(output.read_text("utf-8"))["results"])


def test_one_run_has_no_percentiles(tiny_artifact: Path, tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    once = ("--beams", 1, "--audio-seconds", 2, "--runs", 1, "--warmup", 0, "--new-tokens", 2, "--threads", 1)
    result = call("bench", tiny_artifact, *once, "-o", output)
    assert "p10" not in result.stdout
    assert "percentile" not in result.stdout
    (case, *_) = json.loads(output.read_text("utf-8"))["results"]
    assert case["figures"]["request_ms"]["median"] > 0
    assert case["figures"]["request_ms"]["p10"] is case["figures"]["request_ms"]["p90"] is None
    page = tmp_path / "report.html"
    call("report", output, "-o", page)
    assert " to -)" not in page.read_text("utf-8")


def test_a_clip_is_repeated_to_the_asked_length() -> None:
    from fastadasp.runtime.benchmark.benchmark import repeat

    clip = np.arange(5, dtype=np.float32)
    assert repeat(clip, 1.3, 10).tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2]
    assert repeat(clip, 0.3, 10).tolist() == [0, 1, 2]


def test_a_figure_that_is_absent_in_every_run_is_none() -> None:
    from fastadasp.runtime.benchmark.benchmark import spread

    assert spread([None, None]) is None
    found = spread(range(11))
    assert found is not None
    assert (found.p10, found.median, found.p90) == (1, 5, 9)


# profiles


def test_profiles_list_names_all_built_in_ones_and_those_of_a_folder(tiny_profile_folder: Path) -> None:
    text = call("profiles", "list", "--profiles-folder", tiny_profile_folder).stdout
    first_words = [line.split()[0] for line in text.splitlines()[2:]]  # a line that is folded has another one
    assert sorted(first_words) == sorted([*builtin_names(), "own-30"])
    assert "ratio 3/10" in text
    assert max(map(len, text.splitlines())) <= 80


def test_profiles_show_prints_toml_that_reads_back() -> None:
    text = call("profiles", "show", "dense-decay-30").stdout
    assert parse_profile(text, "dense-decay-30", "stdout") == load_profile("dense-decay-30")


def told(title: str, schedule: str) -> list[str]:
    """What is to be said of the positions of a method that has this title."""
    counts = tomllib.loads(Path(positions_module.__file__).with_name("positions.toml").read_text("utf-8"))
    short, middle, long = (tuple(each.values()) for each in counts[title][schedule].values())
    return [
        "comparisons on audio of which the full model has most words right:",
        f"kept won {short[0]} of {short[2]} at 5 s, {middle[0]} of {middle[2]} at 15 s, "
        f"{long[0]} of {long[2]} at 30 s;",
        f"compact won {short[1]}, {middle[1]}, {long[1]}; on other audio either may be better: "
        "docs/accuracy.md",
    ]


@pytest.mark.parametrize(
    ("toml", "positions", "meaning", "compared"),
    [
        ('method = "average_merge"', "compact", "rows close up after a reduction", "average merge"),
        (
            'method = "average_merge"\npositions = "kept"',
            "kept",
            "rows stay where they were",
            "average merge",
        ),
        (
            'method = "fastv"\nfastv_score = "last_query"\nschedule = "constant"',
            "compact",
            "rows close up after a reduction",
            "FastV, last query",
        ),
        ('method = "h2o"\nschedule = "constant"', "kept", "rows stay where they were", None),
    ],
)
def test_list_show_and_inspect_tell_the_positions_of_a_profile(
    tiny_checkpoint: Path, tmp_path: Path, toml: str, positions: str, meaning: str, compared: str | None
) -> None:
    own, output = tmp_path / "own-30.toml", tmp_path / "art"
    own.write_text(f"{toml}\nratio = 0.3\n", "utf-8")
    call("build", tiny_checkpoint, "-o", output, "--profile", f"full,{own}")
    listed = call("profiles", "list", "--profiles-folder", tmp_path).stdout
    for table in (listed, call("inspect", output).stdout):
        assert re.search(rf"^own-30 +\w+ +{positions} +(single|constant) ", table, re.MULTILINE), table
        assert re.search(r"^full +full +- +- ", table, re.MULTILINE), table
    toml_again = call("profiles", "show", own).stdout
    assert parse_profile(toml_again, "own-30", "stdout") == load_profile(str(own))
    costs = call("profiles", "show", own, "--checkpoint", tiny_checkpoint).stdout
    for start, shown in (("# ", toml_again), ("", costs)):
        lines = shown.splitlines()
        assert f"{start}positions {positions}: {meaning}" in lines
        advice = [line for line in lines if "comparisons on " in line or " won " in line]
        wanted = told(compared, load_profile(str(own)).schedule) if compared else []
        assert advice == [start + line for line in wanted]
    assert "positions" not in call("profiles", "show", "full").stdout


def test_profiles_show_counts_what_a_profile_costs_in_a_model(tiny_checkpoint: Path) -> None:
    options = ("--checkpoint", tiny_checkpoint, "--audio-seconds", 20, "--text-tokens", 12)
    text = call("profiles", "show", "dense-constant-20", *options).stdout
    model = load_model(Checkpoint(tiny_checkpoint))
    resolved = resolve_for(load_profile("dense-constant-20"), model)
    merged = 500 - removed(500, resolved.ratio)
    saved = float(flops_reduction(model.decoder.dims, 500, 12, resolved.ratios))
    assert f"{100 * saved:.1f} % saved" in text
    assert re.search(rf"^ +2 +{resolved.ratio} +512 +{merged + 12} ", text, re.MULTILINE)
    assert "scoring" in text
    assert "cannot run" not in text
    full = call("profiles", "show", "full", "--checkpoint", tiny_checkpoint, "--audio-seconds", 100).stdout
    assert "0.0 % saved" in full
    assert "scoring" not in full
    assert "The model has 1024 positions: it cannot run 2520 rows." in full


def test_profiles_show_tells_the_memory_of_requests_that_the_positions_hold(tiny_checkpoint: Path) -> None:
    text = call("profiles", "show", "dense-constant-20", "--checkpoint", tiny_checkpoint).stdout
    model = load_model(Checkpoint(tiny_checkpoint))
    resolved = resolve_for(load_profile("dense-constant-20"), model)
    sizes = ModelSizes(model.decoder.dims, model.front_end, model.tower_dims, in_place=True)
    samples = 30 * model.front_end.log_mel.sample_rate
    for beams in (1, 5):
        memory = request_memory(sizes, resolved, samples, AnswerSizes(20, beams, 64))
        row = rf"^ *30 s +{beams} +{size(memory.kv_cache)} +{size(memory.peak)} *$"
        assert re.search(row, text, re.MULTILINE), text
    assert " of weights; 64 new tokens" in text
    assert "120 s" not in text, "1024 positions do not hold it"


def test_profiles_show_says_what_a_model_does_not_hear(tmp_path: Path) -> None:
    TINY["glmasr"].save(tmp_path)  # 6 s, in positions for more than 30 s
    text = call("profiles", "show", "full", "--checkpoint", tmp_path, "--audio-seconds", 7).stdout
    assert "The model hears 6 s at once: it refuses longer audio." in text
    assert "memory in float32" not in text
    assert (
        "at once"
        not in call("profiles", "show", "full", "--checkpoint", tmp_path, "--audio-seconds", 6).stdout
    )


def test_profiles_show_tells_cached_rows_from_rows_of_the_prefill(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    own = tmp_path / "hitters.toml"
    own.write_text('method = "h2o"\nschedule = "constant"\nstart_layer = 2\nratio = 0.8\n', "utf-8")
    options = ("--checkpoint", tiny_checkpoint, "--audio-seconds", 20, "--text-tokens", 12)
    text = call("profiles", "show", own, *options).stdout
    assert re.search(r"^ +1 +0 +512 +512 +512 ", text, re.MULTILINE)
    assert re.search(r"^ +3 +4/5 +512 +512 +112 ", text, re.MULTILINE)
    assert re.search(r"without reduction: 0.0 % saved", text)
    assert f"without reduction: {100 * 400 / 1024:.1f} % saved" in text


IDLE = (
    "profile {name}: layer 3 is the last: the prefill computes one row after its attention, so a reduction "
    "there saves nothing, though FLOPs count it"
)


@pytest.mark.parametrize(
    ("method", "schedule", "start", "idle"),
    [
        ("weighted_merge", "single", 3, True),
        ("weighted_merge", "constant", 3, True),
        ("affinity_pooling", "input_and_single", 3, True),
        ("weighted_merge", "single", 2, False),
        ("weighted_merge", "constant", 2, False),
        ("average_merge", "input", None, False),
        ("h2o", "constant", 3, False),
    ],
)
def test_a_reduction_in_the_last_layer_alone_is_told_to_save_nothing(
    tiny_checkpoint: Path, tmp_path: Path, method: str, schedule: str, start: int | None, idle: bool
) -> None:
    own = tmp_path / "own.toml"
    start_layer = "" if start is None else f"start_layer = {start}"
    own.write_text(f'method = "{method}"\nschedule = "{schedule}"\nratio = 0.3\n{start_layer}\n', "utf-8")
    costs = " ".join(call("profiles", "show", own, "--checkpoint", tiny_checkpoint).stdout.split())
    built = call("build", tiny_checkpoint, "-o", tmp_path / "art", "--profile", f"full,{own}").stderr
    told = IDLE.format(name="own")
    assert (told in costs, f"warning: {told}" in built) == (idle, idle)
    assert ("saves nothing" in costs, "saves nothing" in built) == (idle, idle)


def test_profiles_that_save_nothing_are_named_on_one_line(tiny_checkpoint: Path, tmp_path: Path) -> None:
    names = "one", "two"
    for name in names:
        text = 'method = "weighted_merge"\nschedule = "single"\nratio = 0.3\nstart_layer = 3\n'
        (tmp_path / f"{name}.toml").write_text(text, "utf-8")
    options = ("--profiles-folder", tmp_path, "--profile", "full,one,two")
    built = call("build", tiny_checkpoint, "-o", tmp_path / "art", *options)
    told = [line for line in built.stderr.splitlines() if "saves nothing" in line]
    assert told == [f"warning: {IDLE.format(name='one, two')}"]


# inspect


def test_inspect_shows_exact_fractions_files_and_limits(tiny_artifact: Path) -> None:
    text = call("inspect", tiny_artifact, "--verify").stdout
    manifest = parse_manifest((tiny_artifact / "manifest.json").read_text("utf-8"), "manifest")
    assert "1-3: 3/10 = 0.3000" in text
    assert f"2-3: {manifest.profiles['dense-constant-20'].ratio} = " in text
    assert "40.96 s (1024 positions)" in text
    assert "<|audio_bos|>{audio}<|audio_eos|>{prompt}" in text
    assert "greedy, no penalties" in text
    assert manifest.digest in text
    for name, record in manifest.files.items():
        assert name in text
        assert record.blake3[:12] in text
    assert max(map(len, text.splitlines())) <= 80


# check


@pytest.fixture
def golden(tiny_checkpoint: Path, tiny_artifact: Path, tmp_path: Path) -> Path:
    """Outputs of the tiny model, recorded in the form that `check` reads."""
    from safetensors.numpy import save_file

    frames, before, after = 200, np.array([3, 1, 4]), np.array([1, 5, 9])
    mel = np.random.default_rng(0).standard_normal((1, 128, frames)).astype(np.float32)
    model = SpeechLM.load(tiny_artifact)
    rows = model.audio_encoder.encode_window(mel[0], frames // 2)
    decoder, vocab = model.decoder("full", before, rows, after), model.manifest.decoder.dims.vocab_size
    top, logits, tokens = decoder.start(vocab), np.empty((3, vocab), np.float32), []
    for step in range(3):
        logits[step, top.ids[0]] = top.logits[0]
        tokens.append(int(top.ids[0, 0]))
        top = decoder.step(np.array(tokens[-1:]), np.array([0]), vocab)
    lengths = list(decoder.cache.prefix_lengths)
    span = [len(before), len(before) + len(rows) - 1]
    setting = {"method": "full", "schedule": "none", "start_layer": 0, "ratio": 0.0}
    content = {
        "config": {"mel_frames": frames, "span": span},
        "settings": [{**setting, "kv_lengths": lengths, "tokens": tokens}],
    }
    ids = np.concatenate([before, np.zeros(len(rows), np.int64), after])[None]
    save_file({"mel": mel, "input_ids": ids, "logits.0": logits}, tmp_path / "golden.safetensors")
    (tmp_path / "golden.json").write_text(json.dumps(content), "utf-8")
    return tmp_path


def test_check_prints_a_line_a_setting(tiny_checkpoint: Path, golden: Path) -> None:
    first, last = call("check", tiny_checkpoint, "--golden", golden).stdout.splitlines()
    assert first.startswith("ok    0  full none start 0 ratio 0.0")
    assert last.startswith("1 of 1 settings agree")


@pytest.mark.parametrize(
    ("key", "message"), [("tokens", "tokens differ"), ("kv_lengths", "KV lengths differ")]
)
def test_check_exits_with_1_on_a_mismatch(
    tiny_checkpoint: Path, golden: Path, key: str, message: str
) -> None:
    content = json.loads((golden / "golden.json").read_text("utf-8"))
    content["settings"][0][key][-1] ^= 1
    (golden / "golden.json").write_text(json.dumps(content), "utf-8")
    result = CliRunner().invoke(main, ["check", str(tiny_checkpoint), "--golden", str(golden)])
    assert result.exit_code == 1
    assert result.stdout.startswith("FAIL")
    assert message in result.stdout
    assert "0 of 1 settings agree" in result.stdout


# Without the extra `export`


def test_an_artifact_runs_without_the_packages_of_export(tiny_artifact: Path, clip: Path) -> None:
    options = ("--max-new-tokens", 4)
    result = without_the_extra("run", tiny_artifact, clip, *options)
    assert result.stdout == call("run", tiny_artifact, clip, *options).stdout
    assert without_the_extra("inspect", tiny_artifact).returncode == 0
    bench = ("--beams", 1, "--audio-seconds", 2, "--runs", 1, "--warmup", 0, "--new-tokens", 2)
    assert without_the_extra("bench", tiny_artifact, *bench).returncode == 0


@pytest.mark.parametrize(
    "args",
    [
        ("build", "folder", "-o", "art", "--profile", "full"),
        ("profiles", "show", "full", "--checkpoint", "folder"),
        ("check", "--golden", "folder"),
        ("families",),
        ("families", "folder"),
    ],
)
def test_commands_of_export_say_what_to_install(args: tuple[str, ...]) -> None:
    result = without_the_extra(*args)
    assert result.returncode == 2
    assert re.fullmatch(
        r'Error: onnx.* is not installed; .*: pip install "fastadasp-export\[export\]"\n', result.stderr
    )


@pytest.mark.parametrize(
    ("given", "flags"),
    [
        (["--precision", "bf16"], "--precision"),
        (["--sm", "90", "--max-beams", "3"], "--sm, --max-beams"),
        (["--reproducible"], "--reproducible"),
    ],
)
def test_options_of_engines_need_an_engine(tiny_checkpoint, tmp_path, given, flags):
    command = ["build", str(tiny_checkpoint), "-o", str(tmp_path / "ART"), "--profile", "full", *given]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    assert f"{flags}: for engines; give --engine" in result.stderr


def test_all_extras_that_are_missing_are_named_at_once(
    tiny_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parameters, "find_spec", lambda name: None)
    line = CliRunner().invoke(main, ["check", str(tiny_artifact)]).stderr.splitlines()[-1]
    assert "onnx, safetensors, torch, transformers, polygraphy is not installed" in line
    assert 'packages of export and check: pip install "fastadasp-export[export,check]"' in line
    words = ["build", "folder", "-o", "art", "--profile", "full", "--engine", "tensorrt-rtx"]
    line = CliRunner().invoke(main, words).stderr.splitlines()[-1]
    assert 'pip install "fastadasp-export[export,tensorrt-rtx,engines]"' in line


def test_an_unknown_method_is_the_only_fault() -> None:
    result = CliRunner().invoke(main, ["compare", "folder", "--manifest", "clips", "--methods", "foo"])
    assert result.exit_code == 2
    assert "method foo is unknown: choose all, or some of" in result.stderr
    assert "has none of the schedules" not in result.stderr


def test_the_full_model_is_no_method_to_compare() -> None:
    result = CliRunner().invoke(main, ["compare", "folder", "--manifest", "clips", "--methods", "full,foo"])
    assert result.exit_code == 2
    assert "method full is always there, for every figure is compared with it: leave it out" in result.stderr
    assert "method foo is unknown" in result.stderr
