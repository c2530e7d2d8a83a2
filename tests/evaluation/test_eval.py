"""`eval` on the demo: figures, failures, resumption, workers; never how good the model is today."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
from click.testing import CliRunner, Result

from demo_files import DEMO
from fastadasp.evaluation import EvalOptions, evaluate, read_clips, score
from fastadasp.evaluation.answers.journal import journal_of
from fastadasp.evaluation.metrics.word_errors import DETAILS
from fastadasp.export.cli import main
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles.errors import ClipsError, RequestError
from fastadasp.profiles.flops import flops_reduction
from fastadasp.profiles.profile import load_profile
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.artifact.artifact import open_artifact
from fastadasp.runtime.choice.acceptance import ENOUGH_RECORDINGS

HELD = Path(__file__).parent.parent / "held_command.py"
RATE = 16000
PROFILES = ("full", "dense-constant-50")


@pytest.fixture(scope="module")
def demo_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model under `PROFILES`, the first of which keeps every row."""
    output = tmp_path_factory.mktemp("demo") / "artifact"
    build(DEMO / "model", output, BuildOptions(tuple(map(load_profile, PROFILES))))
    return output


def run_eval(artifact: Path, manifest: Path, *args: object) -> Result:
    """`eval` within this process, of asr unless it is told otherwise; whatever is no exit is raised."""
    task = () if "--task" in args else ("--task", "asr")
    command = ["eval", artifact, "--manifest", manifest, "--prompt", "<asr>", *task, *args]
    result = CliRunner().invoke(main, [str(arg) for arg in command])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def results(path: Path) -> dict:
    """A result file without what tells of the machine, the moment and the command."""
    content = json.loads(path.read_text("utf-8"))
    assert content.pop("environment")["libraries"]["jiwer"]
    assert content.pop("command").startswith("fastadasp-export eval ")
    return content


def add_line(manifest: Path, **line: object) -> None:
    with manifest.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")


def audio_of(manifest: Path) -> list[str]:
    return [json.loads(line)["audio"] for line in manifest.read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def undisturbed(demo_artifact, demo_manifest, tmp_path_factory):
    """Table and results of a run that nothing stops."""
    output = tmp_path_factory.mktemp("undisturbed") / "eval.json"
    result = run_eval(demo_artifact, demo_manifest, "-o", output)
    assert result.exit_code == 0, result.output
    return result.stdout, results(output)


# Figures


def test_hypotheses_are_those_of_run_and_figures_those_of_the_hypotheses(
    demo_artifact, demo_manifest, undisturbed
):
    _, found = undisturbed
    model, clips = SpeechLM.load(demo_artifact), read_clips(demo_manifest, "asr").clips
    said = {
        name: [model.generate(clip.path, "<asr>", profile=name).text for clip in clips] for name in PROFILES
    }
    for profile, texts in said.items():
        assert [record["answers"][profile]["text"] for record in found["records"]] == texts
    expected = score("asr", [clip.references for clip in clips], said)
    for entry in found["profiles"]:
        for figure in expected[entry["profile"]]:
            shown, change = entry["figures"][figure.metric.name], figure.delta
            interval = {"low": figure.interval.low, "high": figure.interval.high}
            assert shown.items() >= {"value": figure.value, **interval}.items()
            assert shown["delta"] == (
                change
                and {
                    "value": change.value,
                    "low": change.interval.low,
                    "high": change.interval.high,
                    "p_value": change.p_value,
                }
            )


def test_the_table_shows_what_the_file_holds(undisturbed):
    table, found = undisturbed
    assert found["clips"]["count"] == found["clips"]["measured"] == len(found["records"])
    for entry in found["profiles"]:
        for name, figure in entry["figures"].items():
            assert f"{100 * figure['value']:.2f}" in table
            if name not in {detail.name for detail in DETAILS}:
                assert f"{100 * figure['low']:.2f} to {100 * figure['high']:.2f}" in table
    if (count := found["clips"]["recordings"]) < ENOUGH_RECORDINGS:
        assert f"{count} recordings are few: the intervals are rough." in table
    assert max(map(len, table.splitlines())) <= 80


def test_the_token_loss_is_that_of_the_references_and_answers_stay_the_same(
    demo_artifact, demo_manifest, undisturbed, tmp_path
):
    output = tmp_path / "eval.json"
    table = run_eval(demo_artifact, demo_manifest, "--token-loss", "--at-once", 2, "-o", output).stdout
    found, plain = results(output), undisturbed[1]
    assert max(map(len, table.splitlines())) <= 80
    for entry, before in zip(found["profiles"], plain["profiles"], strict=True):
        scores = [record["answers"][entry["profile"]]["reference"] for record in found["records"]]
        loss = -sum(score["log_probability"] for score in scores) / sum(score["tokens"] for score in scores)
        figure = entry["figures"].pop("token_loss")
        assert figure["value"] == pytest.approx(loss)
        assert f"{loss:.3f}" in table
        assert entry == before
    for record, before in zip(found["records"], plain["records"], strict=True):
        assert {name: it["text"] for name, it in record["answers"].items()} == {
            name: it["text"] for name, it in before["answers"].items()
        }


def test_rows_kept_and_flops_are_those_of_the_profile_at_the_mean_length(demo_artifact, undisturbed):
    _, found = undisturbed
    model, (full, reduced) = SpeechLM.load(demo_artifact), found["profiles"]
    rows = [
        round(np.mean([record[name] for record in found["records"]])) for name in ("audio_rows", "text_rows")
    ]
    ratios = model.manifest.profiles[PROFILES[1]].ratios
    assert reduced["flops_reduction"] == float(flops_reduction(model.manifest.decoder.dims, *rows, ratios))
    assert (full["kept_ratio"], full["flops_reduction"]) == (1, 0)
    assert reduced["kept_ratio"] == pytest.approx(
        np.mean([record["answers"][PROFILES[1]]["kept_ratio"] for record in found["records"]])
    )


def test_profiles_stand_in_the_order_asked_for_and_the_first_is_compared_with(
    demo_artifact, own_clips, tmp_path
):
    output = tmp_path / "eval.json"
    result = run_eval(demo_artifact, own_clips, "--profile", ",".join(reversed(PROFILES)), "-o", output)
    assert f"delta: less that of {PROFILES[1]}" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    first, second = results(output)["profiles"]
    assert (first["profile"], second["profile"]) == tuple(reversed(PROFILES))
    assert first["figures"]["wer"]["delta"] is None
    change = second["figures"]["wer"]["value"] - first["figures"]["wer"]["value"]
    assert second["figures"]["wer"]["delta"]["value"] == pytest.approx(change)


def test_the_search_is_that_of_run(demo_artifact, own_clips, tmp_path):
    output, options = tmp_path / "eval.json", ("--beams", 2, "--max-new-tokens", 1)
    result = run_eval(demo_artifact, own_clips, *options, "--profile", "full", "-o", output)
    assert result.exit_code == 0
    found = results(output)
    assert found["settings"]["search"]["num_beams"] == 2
    assert found["profiles"][0]["cut_off"] == 3
    clip = read_clips(own_clips).clips[0]
    expected = SpeechLM.load(demo_artifact).generate(clip.path, "<asr>", num_beams=2, max_new_tokens=1)
    assert found["records"][0]["answers"]["full"]["text"] == expected.text


def test_another_normaliser_is_recorded(demo_artifact, own_clips, tmp_path):
    output = tmp_path / "eval.json"
    result = run_eval(demo_artifact, own_clips, "--normalizer", "english", "--profile", "full", "-o", output)
    assert results(output)["settings"]["normalizer"] == "english"
    assert "Texts as normaliser english leaves them." in result.stdout


@pytest.mark.parametrize(
    ("task", "metrics"),
    [
        ("translate", ["bleu", "chrf"]),
        ("classify", ["accuracy", "macro_f1"]),
        ("caption", ["cider", "spice", "spider"]),
        ("qa", ["exact_match"]),
    ],
)
def test_every_task_has_its_metrics(demo_artifact, own_clips, tmp_path, task, metrics):
    lines = [json.loads(line) for line in own_clips.read_text("utf-8").splitlines()]
    for line in lines:
        text = line["text"]
        reference = {"label": text} if task == "classify" else {"text": [text, "x"] if task == "qa" else text}
        add_line(own_clips, audio=line["audio"], task=task, **reference)  # beside the lines of asr
    output = tmp_path / "eval.json"
    result = run_eval(demo_artifact, own_clips, "--task", task, "--profile", "full", "-o", output)
    assert result.exit_code == 0, result.output
    found = results(output)
    assert [metric["name"] for metric in found["metrics"]] == metrics
    assert list(found["profiles"][0]["figures"]) == metrics
    assert [record["id"] for record in found["records"]] == [f"{line['audio']}#{task}" for line in lines]
    for figure in found["profiles"][0]["figures"].values():
        assert (figure["value"] is None) == bool(figure["reason"])


@pytest.mark.parametrize(("task", "key"), [("classify", "label"), ("qa", "text")])
def test_references_that_leave_nothing_to_equal_are_refused_before_any_work(
    demo_artifact, own_clips, tmp_path, task, key
):
    add_line(own_clips, audio=audio_of(own_clips)[0], task=task, **{key: "<happy>"})
    output = tmp_path / "eval.json"
    result = run_eval(demo_artifact, own_clips, "--task", task, "-o", output)
    assert result.exit_code == 2
    assert f"task {task}: a reference is empty once it is normalised" in result.stderr
    assert result.stderr.splitlines()[-1] == f"  clip {audio_of(own_clips)[0]}#{task}: '<happy>'"
    with pytest.raises(ClipsError, match="<happy>"):
        evaluate(demo_artifact, read_clips(own_clips, task), EvalOptions(), journal=journal_of(output))
    assert not journal_of(output).exists()
    plain = run_eval(demo_artifact, own_clips, "--task", task, "--normalizer", "none", "--profile", "full")
    assert plain.exit_code == 0


def test_two_questions_about_a_recording_are_drawn_together(demo_artifact, own_clips, tmp_path):
    audio, prompts = audio_of(own_clips)[:3], ("<asr>", "<qa> last")
    right = SpeechLM.load(demo_artifact).generate(own_clips.parent / audio[0], prompts[0]).text
    for name in audio:
        for prompt in prompts:
            add_line(own_clips, audio=name, id=f"{name} {prompt}", task="qa", prompt=prompt, text=right)
    asked = ("--task", "qa", "--max-loss", 100, "--least-recordings", 4)
    result = run_eval(demo_artifact, own_clips, *asked, "-o", tmp_path / "eval.json")
    found = results(tmp_path / "eval.json")
    assert (found["clips"]["measured"], found["clips"]["recordings"]) == (6, 3)
    printed = " ".join(result.stdout.split())
    assert "bootstrap resamples of the 3 recordings, seed 0" in printed
    assert "3 recordings are few: the intervals are rough." in printed
    assert "cannot tell with so few recordings, 3 of at least 4" in printed
    said = {
        profile: [record["answers"][profile]["text"] for record in found["records"]] for profile in PROFILES
    }
    of = [record["audio"] for record in found["records"]]
    expected = score("qa", [[right]] * 6, said, recordings=of)
    for entry in found["profiles"]:
        (figure,), shown = expected[entry["profile"]], entry["figures"]["exact_match"]
        assert (shown["low"], shown["high"]) == (figure.interval.low, figure.interval.high)


def test_labels_that_fill_the_limit_of_tokens_are_judged(demo_artifact, own_clips):
    """No answer ends by itself, and all are right."""
    audio, cut = audio_of(own_clips)[:2], ("--max-new-tokens", 1)
    model = SpeechLM.load(demo_artifact)
    for name in audio:
        right = model.generate(own_clips.parent / name, "<asr>", max_new_tokens=1).text
        add_line(own_clips, audio=name, task="classify", prompt="<asr>", label=right)
    asked = ("--task", "classify", "--max-loss", 100, "--least-recordings", 2)
    result = run_eval(demo_artifact, own_clips, *asked, *cut)
    assert "full: accuracy 100.00 %, 2 of 2 answers cut off" in result.stdout
    assert f"pass: {PROFILES[1]}: " in result.stdout
    assert result.exit_code == 0


def test_spice_that_cannot_be_computed_is_said_in_the_table(demo_artifact, own_clips):
    add_line(own_clips, audio=audio_of(own_clips)[0], task="caption", text="a voice")
    result = run_eval(demo_artifact, own_clips, "--task", "caption", "--profile", "full")
    assert "CIDEr: not computed: " in result.stdout  # of one clip
    assert "SPIDEr: not computed: needs " in result.stdout
    assert "One recording has no interval: give more." in result.stdout


def test_a_folder_of_transcripts_needs_no_manifest(demo_artifact, own_clips, tmp_path):
    folder, output = own_clips.parent, tmp_path / "eval.json"
    for line in own_clips.read_text("utf-8").splitlines():
        clip = json.loads(line)
        (folder / clip["audio"]).with_suffix(".txt").write_text(clip["text"])
    run_eval(demo_artifact, own_clips, "-o", output)
    by_manifest = results(output)
    own_clips.unlink()
    run_eval(demo_artifact, folder, "-o", output)
    assert results(output)["profiles"] == by_manifest["profiles"]


# One encoding a clip


def test_clips_whose_names_are_not_utf_8_are_refused_before_any_work(own_clips, tmp_path):
    folder = transcripts_of(own_clips, tmp_path / "clips-of-bytes")
    bad = {Path(audio).stem for audio in audio_of(own_clips)[:2]}
    for path in [path for path in folder.iterdir() if path.stem in bad]:
        path.rename(folder / os.fsdecode(b"caf\xe9-" + os.fsencode(path.name)))
    output = tmp_path / "eval.json"
    result = run_eval(tmp_path / "no-artifact", folder, "-o", output)
    assert result.exit_code == 2
    assert "2 faulty files" in result.stderr
    assert result.stderr.count("caf\\xe9-") == 2
    assert "its name is not UTF-8; rename it" in result.stderr
    assert not list(tmp_path.glob("eval.json*"))


def test_a_folder_whose_name_is_not_utf_8_loses_no_result(demo_artifact, own_clips, tmp_path):
    """Of a terminal that takes nothing but UTF-8, too."""
    folder = transcripts_of(own_clips, Path(os.fsdecode(os.fsencode(tmp_path) + b"/clips-\xff")))
    (folder / "broken.wav").write_bytes(b"no audio")
    (folder / "broken.txt").write_text("nothing")
    output = tmp_path / "eval.json"
    command = [sys.executable, "-m", "fastadasp.export", "eval", demo_artifact, "--manifest", folder]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    options = ["--prompt", "<asr>", "--resamples", "20", "-o", output]
    ran = subprocess.run([*command, *options], capture_output=True, env=environment, check=False)
    assert ran.returncode == 1, ran.stderr
    assert b"clips-\\udcff" in b"".join(ran.stdout.split())
    assert len(results(output)["clips"]) == 5
    assert sorted(path.name for path in tmp_path.glob("eval.json*")) == ["eval.json"]


def transcripts_of(clip_list, folder):
    """The clips of a list as a folder of transcripts."""
    folder.mkdir()
    for line in clip_list.read_text("utf-8").splitlines():
        clip = json.loads(line)
        shutil.copy(clip_list.parent / clip["audio"], folder)
        (folder / clip["audio"]).with_suffix(".txt").write_text(clip["text"], "utf-8")
    return folder


def test_audio_is_encoded_once_for_all_profiles(demo_artifact, own_clips, monkeypatch):
    encoded, encode = [], SpeechLM.encode

    def counted(model, audio, **options):
        encoded.append(Path(audio).name)
        return encode(model, audio, **options)

    monkeypatch.setattr(SpeechLM, "encode", counted)
    assert run_eval(demo_artifact, own_clips).exit_code == 0
    assert encoded == audio_of(own_clips)


# Failures


def test_clips_that_fail_are_listed_and_in_no_figure(demo_artifact, own_clips, tmp_path):
    sound = run_eval(demo_artifact, own_clips, "-o", tmp_path / "sound.json")
    (own_clips.parent / "noise.wav").write_bytes(b"no audio at all")
    soundfile.write(own_clips.parent / "tiny.wav", np.zeros(1, np.float32), RATE)
    noise, tiny = (
        json.dumps({"audio": f"{name}.wav", "text": "one", "task": "asr"}) for name in ("noise", "tiny")
    )
    own_clips.write_text(f"{noise}\n{own_clips.read_text('utf-8')}{tiny}\n", "utf-8")
    result = run_eval(demo_artifact, own_clips, "-o", tmp_path / "eval.json")
    assert (sound.exit_code, result.exit_code) == (0, 1)
    found, expected = results(tmp_path / "eval.json"), results(tmp_path / "sound.json")
    assert found["profiles"] == expected["profiles"]
    assert found["clips"]["count"] - found["clips"]["measured"] == 2
    assert [(entry["id"], entry["line"], entry["profiles"]) for entry in found["failures"]] == [
        ("noise.wav", 1, [*PROFILES]),
        ("tiny.wav", 5, [*PROFILES]),
    ]
    assert "is corrupt or of an unknown format" in found["failures"][0]["reason"]
    assert [record["measured"] for record in found["records"]] == [False, True, True, True, False]
    assert "2 of 5 clips failed: no figure counts them" in result.stdout
    assert "tiny.wav   5     all" in result.stdout


def test_a_clip_that_one_profile_fails_on_is_measured_for_none(
    demo_artifact, own_clips, monkeypatch, tmp_path
):
    generate, names = SpeechLM.generate, audio_of(own_clips)

    def refuse(model, audio, prompt, *, profile, **options):
        if profile == PROFILES[1] and names[1] in audio.place:
            raise RequestError("too long for this one")
        return generate(model, audio, prompt, profile=profile, **options)

    monkeypatch.setattr(SpeechLM, "generate", refuse)
    result = run_eval(demo_artifact, own_clips, "-o", tmp_path / "eval.json")
    found = results(tmp_path / "eval.json")
    assert result.exit_code == 1
    assert found["clips"]["measured"] == 2
    (failure,) = found["failures"]
    assert (failure["id"], failure["profiles"]) == (names[1], [PROFILES[1]])
    assert list(found["records"][1]["answers"]) == ["full"]


def test_without_any_answer_there_are_no_figures(demo_artifact, tmp_path):
    (tmp_path / "a.wav").write_bytes(b"noise")
    (tmp_path / "a.txt").write_text("one")
    result = run_eval(demo_artifact, tmp_path, "-o", tmp_path / "eval.json")
    assert result.exit_code == 1
    assert "there are no figures" in result.stdout
    assert [entry["figures"] for entry in results(tmp_path / "eval.json")["profiles"]] == [{}, {}]


# Bad input: told before any work


def test_faults_of_a_manifest_come_before_the_artifact_is_looked_at(own_clips, tmp_path):
    add_line(own_clips, audio="none.flac", text="x", task="asr")
    add_line(own_clips, audio="../x.flac", text="", task="asr")
    result = run_eval(tmp_path / "no-artifact", own_clips)
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        f"Error: clip list {own_clips}: 2 faulty lines; nothing was run",
        f"  line 4: audio none.flac is not in {own_clips.parent}",
        f"  line 5: audio ../x.flac leaves the folder {own_clips.parent}; "
        "name a file inside it, without .. at the start; "
        "--audio-root is where paths begin, if not at the clip list",
        "  line 5: text is empty",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--profile", "full,none"), "profile none is not in"),
        (
            ("--workers", 0, "--resamples", 0),
            "Error: --resamples is 0: give a whole number of at least 1; --workers is 0",
        ),
        (("--beams", 0), "--beams is 0"),
        (("-o", "none/eval.json"), "is no folder that can be written"),
        (("--provider", "NoProvider"), "NoProvider"),
        (("--task", "qa"), "holds no clip of qa, but of asr"),
    ],
)
def test_bad_options_are_one_line(demo_artifact, own_clips, options, message):
    result = run_eval(demo_artifact, own_clips, *options)
    assert result.exit_code == 2
    assert message in result.stderr.splitlines()[-1]


def test_an_artifact_without_a_tokenizer_has_no_text_to_measure(demo_artifact, own_clips, tmp_path):
    artifact = tmp_path / "artifact"
    shutil.copytree(demo_artifact, artifact)
    (artifact / "tokenizer.json").unlink()
    manifest = open_artifact(demo_artifact).manifest
    files = {name: record for name, record in manifest.files.items() if name != "tokenizer.json"}
    (artifact / "manifest.json").write_text(replace(manifest, files=files).to_json(), "utf-8")
    assert "it has no tokenizer; add that of the original model" in run_eval(artifact, own_clips).stderr


def test_a_missing_package_is_named_with_what_to_install(demo_artifact, own_clips):
    code = "import sys; sys.modules['jiwer'] = None; from fastadasp.export.cli import main; main()"
    command = [sys.executable, "-c", code, "eval", str(demo_artifact), "--manifest", str(own_clips)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("Error: jiwer is not installed; ")
    assert 'pip install "fastadasp-export[accuracy]"' in result.stderr


# Resumption


class Run:
    """`eval` in a process of its own."""

    def __init__(self, artifact: Path, manifest: Path, output: Path, *options: object) -> None:
        self.output, self.journal = output, journal_of(output)
        arguments = (
            "eval",
            artifact,
            "--manifest",
            manifest,
            "--prompt",
            "<asr>",
            "--task",
            "asr",
            "-o",
            output,
        )
        self.words = [str(word) for word in (*arguments, *options)]

    def start(self, clips: int | None = None) -> subprocess.Popen[str]:
        """Begin it; with a number, each of its processes answers so many clips and no more."""
        program = ("-m", "fastadasp.export") if clips is None else (HELD, clips)
        command = [sys.executable, *map(str, program), *self.words]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def lines(self) -> int:
        return self.journal.read_bytes().count(b"\n") if self.journal.is_file() else 0

    def kill_after(self, lines: int, pause: float, workers: int) -> None:
        """Start, and kill a little after the journal has so many lines: it cannot end before."""
        process = self.start((lines - self.lines()) // workers)
        while self.lines() < lines and process.poll() is None:
            time.sleep(0.01)
        time.sleep(pause)
        process.kill()
        _, stderr = process.communicate()
        assert process.returncode == -signal.SIGKILL, stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bytes(
    demo_artifact, demo_manifest, undisturbed, tmp_path, workers
):
    run = Run(demo_artifact, demo_manifest, tmp_path / "eval.json", "--workers", workers)
    generator = random.Random(7)
    for _ in range(3):
        run.kill_after(run.lines() + 2, generator.uniform(0, 0.2), workers)
        assert not run.output.exists()
        assert run.journal.exists()
    process = run.start()
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    table, found = undisturbed
    assert (stdout, results(run.output)) == (table, found)
    assert not run.journal.exists()


@pytest.fixture
def stopped(demo_artifact, own_clips, tmp_path, monkeypatch):
    """The output of a run that Ctrl-C stopped after two of three clips; its journal is there."""
    encode, asked = SpeechLM.encode, []

    def interrupted(model, audio, **options):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(audio)
        return encode(model, audio, **options)

    with monkeypatch.context() as patched:
        patched.setattr(SpeechLM, "encode", interrupted)
        assert "Aborted!" in run_eval(demo_artifact, own_clips, "-o", tmp_path / "eval.json").stderr
    return tmp_path / "eval.json"


OTHERS = {
    "profiles": ("--profile", "full"),
    "search": ("--beams", 2),
    "token_loss": ("--token-loss",),
    "at_once": ("--at-once", 2),
    "lean": ("--lean",),
    "providers": ("--provider", "CUDAExecutionProvider"),
    "backend, precision, providers": ("--backend", "openvino"),
}
"""Options that change settings of a journal, by the names of those."""


def test_every_setting_is_compared_with_that_of_the_journal(demo_artifact, own_clips, stopped, tmp_path):
    def refusal(artifact, *options):
        result = run_eval(artifact, own_clips, *options, "-o", stopped)
        assert result.exit_code == 2
        return result.stderr.splitlines()[-1]

    for names, options in OTHERS.items():
        assert f"other settings: {names};" in refusal(demo_artifact, *options)
    other = shutil.copytree(demo_artifact, tmp_path / "other")
    changed = replace(open_artifact(other).manifest, versions={})
    (other / "manifest.json").write_text(changed.to_json(), "utf-8")
    assert "other settings: artifact;" in refusal(other)
    header, *answers = journal_of(stopped).read_text("utf-8").splitlines()
    content = json.loads(header)
    assert content["settings"].keys() == {
        *("artifact", "clips", "profiles", "search", "token_loss", "at_once"),
        *("backend", "providers", "lean", "libraries"),
    }
    assert content["settings"]["libraries"].pop("numpy") == np.__version__
    journal_of(stopped).write_text("\n".join([json.dumps(content), *answers, ""]), "utf-8")
    assert "other settings: libraries;" in refusal(demo_artifact)


def test_answers_that_were_kept_are_not_found_again(demo_artifact, own_clips, stopped, monkeypatch):
    asked, encode = [], SpeechLM.encode

    def counted(model, audio, **options):
        asked.append(audio.name)
        return encode(model, audio, **options)

    monkeypatch.setattr(SpeechLM, "encode", counted)
    assert run_eval(demo_artifact, own_clips, "-o", stopped).exit_code == 0
    assert asked == audio_of(own_clips)[2:]
    assert not journal_of(stopped).exists()


def test_a_journal_of_other_settings_is_refused_with_the_remedy(demo_artifact, own_clips, stopped):
    result = run_eval(demo_artifact, own_clips, "--beams", 2, "-o", stopped)
    assert result.exit_code == 2
    remedy = "other settings: search; go on with those, or start again with --restart"
    assert remedy in result.stderr.splitlines()[-1]
    first, second = (own_clips.parent / name for name in audio_of(own_clips)[:2])
    first.write_bytes(second.read_bytes())
    assert "other settings: clips;" in run_eval(demo_artifact, own_clips, "-o", stopped).stderr
    assert run_eval(demo_artifact, own_clips, "-o", stopped, "--restart").exit_code == 0
    assert not journal_of(stopped).exists()


def test_another_normaliser_takes_the_same_journal(demo_artifact, own_clips, stopped):
    assert run_eval(demo_artifact, own_clips, "--normalizer", "none", "-o", stopped).exit_code == 0
    assert results(stopped)["settings"]["normalizer"] == "none"


def test_bad_input_leaves_no_journal_that_would_refuse_the_mended_call(demo_artifact, own_clips, tmp_path):
    output = tmp_path / "eval.json"
    assert run_eval(demo_artifact, own_clips, "--provider", "NoProvider", "-o", output).exit_code == 2
    assert not journal_of(output).exists()


def workers_of(run: Run) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """A run whose workers have answered a clip each and no more, and its workers."""
    process = run.start(1)
    while run.lines() < 2 and process.poll() is None:
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    return process, [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def test_no_worker_outlives_a_run_that_is_killed(demo_artifact, demo_manifest, tmp_path):
    process, workers = workers_of(Run(demo_artifact, demo_manifest, tmp_path / "eval.json", "--workers", 2))
    assert len(workers) == 2
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive


def test_a_worker_that_dies_is_told_and_what_was_answered_is_kept(demo_artifact, demo_manifest, tmp_path):
    run = Run(demo_artifact, demo_manifest, tmp_path / "eval.json", "--workers", 2)
    process, workers = workers_of(run)
    workers[0].kill()
    _, stderr = process.communicate()
    assert process.returncode == 2
    assert "one of 2 worker processes died" in stderr.splitlines()[-1]
    assert run.lines() > 1


# Workers


def test_the_number_of_workers_changes_nothing(demo_artifact, demo_manifest, undisturbed, tmp_path):
    result = run_eval(demo_artifact, demo_manifest, "--workers", 3, "-o", tmp_path / "eval.json")
    assert (result.stdout, results(tmp_path / "eval.json")) == undisturbed


def test_an_error_within_a_worker_is_the_one_that_is_told(demo_artifact, own_clips):
    result = run_eval(demo_artifact, own_clips, "--workers", 2, "--provider", "NoProvider")
    assert result.exit_code == 2
    assert "NoProvider" in result.stderr.splitlines()[-1]


# From Python


def test_python_gets_every_clip_with_its_answers_and_failures(demo_artifact, own_clips):
    (own_clips.parent / "noise.wav").write_bytes(b"no audio at all")
    add_line(own_clips, audio="noise.wav", text="one", task="asr")
    told = []
    options = EvalOptions(profiles=("full",), resamples=50)
    clips = read_clips(own_clips, prompt="<asr>")
    found = evaluate(demo_artifact, clips, options, lambda *step: told.append(step))
    assert told == [("answer clips", i, 4) for i in range(5)]
    assert [clip.id for clip in found.measured] == [clip.id for clip in clips.clips[:3]]
    assert [failure.clip.id for failure in found.failures] == ["noise.wav"]
    for clip, record in found.records:
        assert clip.id == record.clip_id
        assert record.is_complete == ("full" in record.answers)
    assert found.profiles[0].figures[0].metric.name == "wer"
