"""From `eval`, `tune` and `bench` into an artifact, and from there to the profile of a request."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from demo_files import CLIPS, DEMO
from fastadasp.export.cli import main
from fastadasp.runtime.artifact.artifact import open_artifact
from fastadasp.runtime.artifact.manifest import FILE_NAME, Manifest

PROFILES = "full,dense-constant-50"
REDUCED = "dense-constant-50"
ASKED = ("--manifest", CLIPS, "--task", "asr", "--prompt", "<asr>", "--max-new-tokens", 16, "--threads", 1)
CLIP = CLIPS.parent / "dates-01.flac"


def call(*args: object) -> Result:
    """A command within this process; whatever is no exit is raised."""
    result = CliRunner().invoke(main, [str(arg) for arg in args], env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def refusal(*args: object) -> str:
    result = call(*args)
    assert result.exit_code == 2, result.output
    return result.stderr


def manifest_of(artifact: Path) -> Manifest:
    return open_artifact(artifact).manifest


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo under `PROFILES`, without figures."""
    output = tmp_path_factory.mktemp("demo") / "ART"
    assert call("build", DEMO / "model", "-o", output, "--profile", PROFILES).exit_code == 0
    return output


@pytest.fixture(scope="module")
def evaluated(built: Path) -> Path:
    """A result of `eval` whose budget holds whatever ten clips say."""
    output = built.parent / "eval.json"
    result = call("eval", built, *ASKED, "--max-wer-increase", 100, "--least-recordings", 10, "-o", output)
    assert result.exit_code == 0, result.output
    return output


@pytest.fixture(scope="module")
def benched(built: Path) -> Path:
    """A result of `bench`."""
    output = built.parent / "bench.json"
    sizes = ("--audio-seconds", "1,4", "--beams", "1", "--new-tokens", 2, "--runs", 1, "--warmup", 0)
    assert call("bench", built, *sizes, "--threads", 1, "-o", output).exit_code == 0
    return output


@pytest.fixture
def artifact(built: Path, tmp_path: Path) -> Path:
    """A copy of its own."""
    return Path(shutil.copytree(built, tmp_path / "ART"))


def edited(path: Path, output: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A result file that says something else."""
    content = json.loads(path.read_text("utf-8"))
    change(content)
    output.write_text(json.dumps(content), "utf-8")
    return output


# The gate of eval


def gate(artifact: Path, *args: object) -> tuple[int, str]:
    result = call("eval", artifact, *ASKED, "--resamples", 100, *args)
    assert "Traceback" not in result.output
    return result.exit_code, result.stdout


def test_a_profile_within_its_budget_passes(built: Path, evaluated: Path) -> None:
    code, printed = gate(built, "--max-loss", 100, "--least-recordings", 10)
    assert code == 0
    assert "Budget: loss of WER against full, in points, by the upper end of its 95 % interval" in printed
    assert "full: WER 0.00 %, 0 of 10 answers cut off" in printed
    line = next(line for line in printed.splitlines() if line.startswith("pass: "))
    assert line.startswith(f"pass: {REDUCED}: +")
    assert line.endswith("is within the budget of 100, up to the end of its interval")
    assert json.loads(evaluated.read_text("utf-8"))["max_loss"] == 1


def test_few_clips_do_not_pass_whatever_they_say(built: Path) -> None:
    code, printed = gate(built, "--max-wer-increase", 100)
    assert code == 1
    assert f"FAIL: {REDUCED}: +" in printed
    assert "of a budget of 100: cannot tell with so few recordings, 10 of at least 30" in printed


def test_answers_that_are_all_cut_off_do_not_pass_and_no_profile_is_accepted_by_them(
    built: Path, tmp_path: Path
) -> None:
    """One token each: what a profile loses after it is not seen."""
    output = tmp_path / "cut.json"
    asked = ("--manifest", CLIPS, "--task", "asr", "--prompt", "<asr>", "--max-new-tokens", 1, "--threads", 1)
    found = call("eval", built, *asked, "--max-loss", 100, "--least-recordings", 10, "-o", output)
    assert found.exit_code == 1
    assert ", 10 of 10 answers cut off" in found.stdout
    words = "10 of 10 answers of full were cut off: raise --max-new-tokens"
    assert f"of a budget of 100: cannot tell, for {words}" in found.stdout
    refused = refusal("figures", built, "--accepted", output, "--least-recordings", 10)
    assert f"cut.json: it cannot tell what profiles lose, for {words}" in refused
    assert manifest_of(built).figures is None


def test_a_profile_over_its_budget_fails_with_figure_and_interval(tmp_path: Path) -> None:
    """Nineteen of twenty rows go in every layer: hardly a word is left."""
    harsh = 'method = "weighted_merge"\nschedule = "constant"\nratio = 0.95\n'
    (tmp_path / "harsh.toml").write_text(harsh, "utf-8")
    profiles = f"full,{tmp_path / 'harsh.toml'}"
    assert call("build", DEMO / "model", "-o", tmp_path / "ART", "--profile", profiles).exit_code == 0
    code, printed = gate(tmp_path / "ART", "--max-wer-increase", 1)
    assert code == 1
    (line,) = [line for line in printed.splitlines() if line.startswith("FAIL: ")]
    assert line.startswith("FAIL: harsh: +")
    assert "(95 %: +" in line
    assert line.endswith("is over the budget of 1")


def test_a_budget_is_against_a_model_that_is_not_reduced(built: Path) -> None:
    words = refusal("eval", built, *ASKED, "--profile", f"{REDUCED},full", "--max-loss", 1)
    assert f"the first profile is {REDUCED}, which reduces: name full first" in words


def test_a_budget_that_would_judge_nothing_is_refused(built: Path) -> None:
    words = refusal("eval", built, *ASKED, "--profile", "full", "--max-loss", 1)
    assert "others lose against full, and there is no other: name one more" in words


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (("--max-loss", 1, "--max-wer-increase", 1), "give the budget once"),
        (("--max-loss", -1), "--max-loss is -1.0: give a number of points from 0 on"),
        (("--max-loss", "nan"), "--max-loss is nan"),
        (("--max-wer-increase", -1), "--max-wer-increase is -1.0: give a number of points from 0 on"),
        (("--max-loss", 1, "--least-recordings", 0), "--least-recordings is 0"),
        (
            ("--max-loss", 1, "--resamples", 99),
            "--resamples is 99, too rough an interval to judge a budget by",
        ),
    ],
)
def test_a_budget_that_is_none_is_refused(built: Path, given: tuple[object, ...], fault: str) -> None:
    assert fault in refusal("eval", built, *ASKED, *given)


def test_a_budget_of_wer_is_of_transcripts(built: Path, tmp_path: Path) -> None:
    line = {"audio": str(CLIP), "task": "qa", "text": "friday"}
    (tmp_path / "clips.jsonl").write_text(json.dumps(line), "utf-8")
    asked = ("--manifest", tmp_path / "clips.jsonl", "--audio-root", "/", "--max-wer-increase", 1)
    assert "--max-wer-increase is of asr; the clips are of qa: give --max-loss" in refusal(
        "eval", built, *asked
    )


def test_a_budget_of_transcripts_without_blanks_is_of_their_characters(built: Path, tmp_path: Path) -> None:
    line = {"audio": str(CLIP), "task": "asr", "text": "今天天气很好"}
    (tmp_path / "clips.jsonl").write_text(json.dumps(line), "utf-8")
    asked = ("--manifest", tmp_path / "clips.jsonl", "--audio-root", "/")
    assert "give --max-loss, which is of CER" in refusal("eval", built, *asked, "--max-wer-increase", 1)
    found = call("eval", built, *asked, "--max-loss", 1, "--max-new-tokens", 2)
    assert "Budget: loss of CER against full" in found.stdout
    assert f"FAIL: {REDUCED}: " in found.stdout


# Taking figures in


def test_figures_go_into_the_manifest_alone_and_requests_are_answered_by_them(
    artifact: Path, evaluated: Path, benched: Path
) -> None:
    before = {path: path.read_bytes() for path in artifact.rglob("*") if path.is_file()}
    digest = manifest_of(artifact).digest
    result = call(
        *("figures", artifact, "--accepted", evaluated, "--latency", benched, "--least-recordings", 10)
    )
    assert result.exit_code == 0, result.output
    assert f"{REDUCED}: accepted: +" in result.stderr
    assert "latency of full, dense-constant-50 at 1, 4 s of audio, on CPUExecutionProvider" in result.stderr
    after = {path: path.read_bytes() for path in artifact.rglob("*") if path.is_file()}
    assert after.keys() == before.keys()
    assert [path.name for path in after if after[path] != before[path]] == [FILE_NAME]
    manifest = manifest_of(artifact)
    assert manifest.digest == digest
    assert manifest.figures is not None
    accuracy, latency = manifest.figures.accuracy, manifest.figures.latency
    assert accuracy is not None
    assert latency is not None
    assert (accuracy.clips.name, accuracy.clips.count, accuracy.against) == ("transcripts.jsonl", 10, "full")
    longest = max(soundfile.info(path).duration for path in CLIPS.parent.glob("*.flac"))
    assert accuracy.clips.longest_seconds == pytest.approx(longest)
    assert latency.machine.threads == 1
    shown = call("inspect", artifact).stdout
    assert "accuracy: WER (asr) lost against full" in shown
    assert f"SHA-256 {accuracy.clips.digest[:12]}" in shown
    assert "latency: prefill and decode" in shown

    asked = ("--prompt", "<asr>", "--profile", "auto", "--threads", 1)
    answered = call("run", artifact, CLIP, *asked, "--accuracy-budget", 0)
    assert (answered.exit_code, answered.stdout) == (0, "friday march six\n")
    assert f"{CLIP}: full: " in answered.stderr
    assert "the fastest of those that lose at most 0: it loses nothing" in answered.stderr
    record = json.loads(call("run", artifact, CLIP, *asked, "--latency-budget", 999, "--json").stdout)
    assert record["profile_reason"].startswith(f"{record['profile']}: ")
    unmet = refusal("run", artifact, CLIP, *asked, "--latency-budget", 1e-6)
    assert "none of the accepted ones is predicted to take at most 1e-06 s" in unmet
    assert "no figures of latency for 3 beams" in refusal(
        "run", artifact, CLIP, *asked, "--latency-budget", 9, "--beams", 3
    )
    assert "give --profile auto" in refusal("run", artifact, CLIP, "--latency-budget", 9)
    assert "--latency-budget and --accuracy-budget: give one of them" in refusal(
        "run", artifact, CLIP, *asked
    )
    cut = call("run", artifact, CLIP, *asked, "--accuracy-budget", 0, "--segments")
    assert f"{CLIP}: profiles chosen by their lengths: full for 1\n" in cut.stderr
    long = artifact.parent / "long.wav"
    soundfile.write(long, np.zeros(5 * 16000, np.float32), 16000)
    several = call("run", artifact, long, CLIP, *asked, "--latency-budget", 999)
    assert (several.exit_code, several.stdout) == (1, f"{CLIP}\tfriday march six\n")
    assert f"Error: {long}: profile auto: no figures of latency for 5.0 s of audio" in several.stderr


def test_each_kind_replaces_its_own(artifact: Path, evaluated: Path, benched: Path) -> None:
    assert call("figures", artifact, "--latency", benched).exit_code == 0
    held = manifest_of(artifact).figures
    assert held is not None
    assert held.accuracy is None
    result = call("figures", artifact, "--accepted", evaluated)
    assert f"{REDUCED}: NOT accepted: +" in result.stderr
    assert "with so few recordings, 10 of at least 30" in result.stderr
    both = manifest_of(artifact).figures
    assert both is not None
    assert both.latency == held.latency
    assert both.accuracy is not None
    assert REDUCED in both.accuracy.losses


@pytest.mark.parametrize(("load", "is_told"), [(8.25, True), (0.5, False)])
def test_times_of_a_busy_machine_are_taken_in_with_the_warning_of_bench(
    artifact: Path, benched: Path, tmp_path: Path, load: float, is_told: bool
) -> None:
    found = json.loads(benched.read_text("utf-8"))
    found["environment"]["load_average"] = [load, 0.1, 0.1]
    timed = tmp_path / "bench.json"
    timed.write_text(json.dumps(found), "utf-8")
    said = call("figures", artifact, "--latency", timed).stderr
    assert ("The machine was busy (load 8.2): times may be longer" in said) is is_told


def test_a_build_takes_the_figures_of_an_equal_build(evaluated: Path, benched: Path, tmp_path: Path) -> None:
    words = ("build", DEMO / "model", "-o", tmp_path / "ART", "--accepted", evaluated, "--latency", benched)
    result = call(*words, "--profile", PROFILES, "--least-recordings", 10)
    assert result.exit_code == 0, result.output
    assert f"{REDUCED}: accepted: +" in result.stderr
    assert manifest_of(tmp_path / "ART").figures is not None


def test_figures_of_another_build_are_refused_and_it_stays_without(
    evaluated: Path, benched: Path, tmp_path: Path
) -> None:
    output = tmp_path / "ART"
    words = ("build", DEMO / "model", "-o", output, "--profile", "full,dense-constant-40")
    refused = refusal(*words, "--accepted", evaluated)
    assert "eval.json: it measured another artifact" in refused
    assert f"{output} stands without them; figures {output} takes in others" in refused
    assert manifest_of(output).figures is None
    assert "bench.json: it measured another artifact" in refusal("figures", output, "--latency", benched)
    assert manifest_of(output).figures is None


def test_files_that_say_nothing_of_accuracy_or_latency_are_named(
    artifact: Path, evaluated: Path, benched: Path, tmp_path: Path
) -> None:
    plain = edited(evaluated, tmp_path / "plain.json", lambda content: content.update(max_loss=None))
    other = edited(
        evaluated, tmp_path / "other.json", lambda content: content["clips"].update(digest="1" * 64)
    )
    given = ("--accepted", f"{plain},{benched}", "--latency", benched)
    words = refusal("figures", artifact, *given)
    assert "plain.json: it has no budget; evaluate with --max-loss" in words
    assert "bench.json: it holds no accuracy; give a file of eval or tune" in words
    assert "give a file of bench" in refusal("figures", artifact, "--latency", evaluated)
    both = refusal("figures", artifact, "--accepted", evaluated, "--accepted", other)
    assert "other.json: it is of other clips than eval.json" in both
    assert f"other.json: profile {REDUCED} is in eval.json, too" in both
    searched = edited(
        evaluated,
        tmp_path / "searched.json",
        lambda content: content["settings"]["search"].update(num_beams=5),
    )
    words = refusal("figures", artifact, "--accepted", evaluated, "--accepted", searched)
    assert "searched.json: it was measured with another search than eval.json" in words
    hostile = edited(evaluated, tmp_path / "hostile.json", lambda content: content.update(max_loss=-1))
    assert f"losses.{REDUCED}.budget is -100.0: it must not be negative" in refusal(
        "figures", artifact, "--accepted", hostile
    )
    assert "give --accepted" in refusal("figures", artifact)
    assert manifest_of(artifact).figures is None
    (tmp_path / "broken.json").write_text("{", "utf-8")
    line = refusal(
        "build",
        DEMO / "model",
        "-o",
        tmp_path / "NEW",
        "--profile",
        "full",
        "--accepted",
        tmp_path / "broken.json",
    )
    assert "broken.json" in line
    assert not (tmp_path / "NEW").exists()


def test_the_choice_of_a_tuning_is_accepted_under_the_name_that_it_has(tmp_path: Path) -> None:
    search = ("--schedules", "constant", "--start-layers", 0, "--positions", "kept", "--flops-levels", 30)
    profile, output = tmp_path / "tuned.toml", tmp_path / "tune.json"
    tuned = call("tune", DEMO / "model", *ASKED, *search, "--max-loss", 100, "-o", profile, "--json", output)
    assert tuned.exit_code == 0, tuned.output
    art, words = tmp_path / "ART", ("build", DEMO / "model", "--accepted", output, "--least-recordings", 5)
    result = call(*words, "-o", art, "--profile", f"{profile},full,dense-constant-20")
    assert result.exit_code == 0, result.output
    assert "tuned: accepted: +" in result.stderr
    figures = manifest_of(art).figures
    assert figures is not None
    assert figures.accuracy is not None
    assert list(figures.accuracy.losses) == ["tuned"]
    assert figures.accuracy.losses["tuned"].budget == 100
    assert figures.accuracy.clips.name == "transcripts.jsonl, held-out half"
    other = refusal(*words, "-o", tmp_path / "B", "--profile", "full,dense-constant-20")
    assert "its profile is none of the artifact's; build with the .toml that tune wrote" in other
    fewer = refusal(*words, "-o", tmp_path / "C", "--profile", f"{profile},full", "--quantize", "int8")
    assert "it tuned another model, or one with weights in another format" in fewer


def test_auto_is_no_name_of_a_profile(tmp_path: Path) -> None:
    (tmp_path / "auto.toml").write_text('method = "full"\n', "utf-8")
    words = refusal("build", DEMO / "model", "-o", tmp_path / "ART", "--profile", tmp_path / "auto.toml")
    assert "profile auto: requests give this word to have one chosen; rename the file" in words
