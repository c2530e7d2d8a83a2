"""`tune` from end to end: on random weights what the halves say is known, on the demo it may be anything."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from demo_files import DEMO
from fastadasp.evaluation import read_clips
from fastadasp.evaluation.results.tuning import TUNING_FORMAT
from fastadasp.export.cli import main
from fastadasp.export.studies.trials import Trials
from fastadasp.export.studies.tune.halves import halves_of
from fastadasp.profiles.profile import load_profile, parse_profile
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.tables.units import in_percent

LIMIT, END = 40, 263  # an id that the random weights come to within so many tokens, with any profile
ENDING = ("--max-new-tokens", LIMIT, "--eos", END)
SEARCH = ("--normalizer", "none", "--resamples", 50, *ENDING)
ANY_LOSS = ("--max-loss", 100)  # of accuracy
OUT = "out: the next level, out of reach and not tried"
SMALL = ("--schedules", "constant,single", "--start-layers", 0, "--flops-levels", "10,20,30", *SEARCH)


def call(*args):
    result = CliRunner().invoke(main, ["tune", *map(str, args)], env={"COLUMNS": "80"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def kept_to(printed):
    """The last column of the first table."""
    return [line.split("   ")[-1].strip() for line in printed.splitlines() if " from " in line]


def results(path):
    """A result file without what tells of the machine, the moment and the command."""
    content = json.loads(path.read_text("utf-8"))
    assert content.pop("environment")["libraries"]["numpy"]
    assert content.pop("command").startswith("fastadasp-export tune ")
    return content


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """A folder of six clips of noise."""
    folder = tmp_path_factory.mktemp("sounds")
    for i in range(6):
        samples = 0.1 * np.random.default_rng(i).standard_normal(16000 + 3000 * i)
        soundfile.write(folder / f"{i}.wav", samples, 16000)
    return folder


def manifest_of(folder, labels, path):
    lines = [{"audio": f"{i}.wav", "task": "classify", "label": label} for i, label in enumerate(labels)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return ("--manifest", path, "--audio-root", folder)


@pytest.fixture(scope="module")
def said(tiny_artifact, sounds):
    """What the unreduced model says about each clip."""
    model = SpeechLM.load(tiny_artifact)
    search = {"max_new_tokens": LIMIT, "eos_token_ids": (END,)}
    return [model.generate(path, "", **search).text for path in sorted(sounds.glob("*.wav"))]


@pytest.fixture
def clips(sounds, said, tmp_path):
    """Clips on which `full` is always right."""
    return manifest_of(sounds, said, tmp_path / "clips.jsonl")


def assert_consistent(found):
    """What holds of any result."""
    assert (found["kind"], found["format_version"]) == ("tune", TUNING_FORMAT)
    assert not set(found["halves"]["search"]) & set(found["halves"]["held_out"])
    assert found["clips"]["count"] == len(found["halves"]["search"])
    by_name = {candidate["name"]: candidate for candidate in found["candidates"]}
    assert len(by_name) == len(found["candidates"])
    metric = found["metrics"][0]
    for candidate in found["candidates"]:
        profile = parse_profile(candidate["toml"], candidate["name"], "results")
        own = {key: getattr(profile, key) for key in ("method", "schedule", "start_layer", "positions")}
        assert {key: candidate[key] for key in own} == own
        sign = 1 if metric["lower_is_better"] else -1
        delta = candidate["scores"]["figures"][metric["name"]]["delta"]
        assert candidate["loss"]["value"] == pytest.approx(sign * delta["value"])
        ends = [None if delta[end] is None else sign * delta[end] for end in ("low", "high")]
        assert [candidate["loss"][end] for end in ("low", "high")[::sign]] == pytest.approx(ends)
        assert candidate["feasible"] == (candidate["loss"]["value"] <= found["max_loss"] + 1e-9)
        assert candidate["kv_bytes"] < found["full_kv_bytes"]
    kept = [by_name[ladder["highest"]] for ladder in found["ladders"] if ladder["highest"]]
    assert all(candidate["feasible"] for candidate in kept)
    if found["choice"] is not None:
        assert by_name[found["choice"]] in kept
        assert parse_profile(found["profile"], "tuned", "results").ratio is not None
        held_out = found["held_out"]
        assert [entry["profile"] for entry in held_out["profiles"]] == ["full", found["choice"]]
        kept = held_out["loss"]["value"] <= found["max_loss"] + 1e-9
        assert held_out["within_budget"] == (kept and found["reason"] is None)
    assert (found["choice"] is None) == (found["held_out"] is None)
    assert found["reason"] is not None or found["choice"] is not None


# What is refused before anything is built


def test_a_reference_without_text_is_refused_before_any_work_in_whichever_half_it_is(
    tiny_checkpoint, sounds, tmp_path
):
    for i in range(6):
        manifest = manifest_of(sounds, ["sad"] * i + ["<sad>"] + ["sad"] * (5 - i), tmp_path / "clips.jsonl")
        result = call(tiny_checkpoint, *manifest, "--max-loss", 0, "-o", tmp_path / "mine.toml")
        assert result.exit_code == 2
        assert result.stderr.splitlines()[-1] == f"  clip {i}.wav: '<sad>'"
        assert [path.name for path in tmp_path.iterdir()] == ["clips.jsonl"]


# What is found


def test_where_the_budget_holds_any_loss_the_most_is_saved_and_the_profile_is_written(
    tiny_checkpoint, clips, tmp_path
):
    profile, output = tmp_path / "mine.toml", tmp_path / "tune.json"
    result = call(tiny_checkpoint, *clips, *ANY_LOSS, *SMALL, "-o", profile, "--json", output)
    assert result.exit_code == 0, result.output
    found = results(output)
    assert_consistent(found)
    for ladder in found["ladders"]:
        assert ladder["highest"].endswith(f"-flops-{in_percent(Fraction(ladder['reachable'][-1]))}")
    levels = {candidate["name"]: Fraction(candidate["level"]) for candidate in found["candidates"]}
    assert levels[found["choice"]] == max(levels.values())
    assert load_profile(str(profile)) == parse_profile(found["profile"], "mine", "results")
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert f"Chosen: {found['choice']}." in result.stdout
    assert f"Candidates tried on 3 clips: {len(levels)}." in result.stdout
    assert "Held out, 3 clips: accuracy " in result.stdout
    assert ", full 100.00 %; loss +" in " ".join(result.stdout.split())
    assert not (tmp_path / "mine.toml.work").exists()


def test_ladders_that_end_at_what_can_be_reached_are_told_in_the_table(tiny_checkpoint, clips, tmp_path):
    ladders = ("--schedules", "decay", "--start-layers", "0,2,3", "--positions", "kept", *SEARCH)
    grid = (*ladders, "--flops-levels", "10,50")
    result = call(tiny_checkpoint, *clips, *grid, *ANY_LOSS, "-o", tmp_path / "mine.toml")
    assert kept_to(result.stdout) == ["50 %", "10 % (50 out)", "- (10 out)"]
    assert OUT in " ".join(result.stdout.split())


def test_clips_of_one_recording_count_once(tiny_checkpoint, sounds, said, tmp_path):
    lines = [
        {"audio": f"{i // 2}.wav", "id": str(i), "task": "classify", "label": said[i // 2]} for i in range(8)
    ]
    (tmp_path / "clips.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    listed = "--manifest", tmp_path / "clips.jsonl", "--audio-root", sounds
    outputs = "-o", tmp_path / "mine.toml", "--json", tmp_path / "tune.json"
    result = call(tiny_checkpoint, *listed, *ANY_LOSS, *SMALL, *outputs)
    assert result.exit_code == 0, result.output
    found = results(tmp_path / "tune.json")
    assert_consistent(found)
    for half in (found["clips"], found["held_out"]["clips"]):
        assert (half["measured"], half["recordings"]) == (4, 2)
    assert "2 recordings are few: the intervals are rough." in result.stdout


def test_a_held_out_half_that_says_no_is_told_and_no_other_profile_is_chosen(
    tiny_checkpoint, sounds, said, tmp_path
):
    """`full` is right on the held-out half and on one other clip, so little is lost where one searches."""
    path = tmp_path / "clips.jsonl"
    manifest_of(sounds, said, path)
    halves = halves_of(read_clips(path, audio_root=sounds), 0)
    right = {clip.audio for clip in (*halves.held_out.clips, halves.search.clips[0])}
    labels = [text if f"{i}.wav" in right else "no such answer" for i, text in enumerate(said)]
    profile, output = tmp_path / "mine.toml", tmp_path / "tune.json"
    result = call(
        tiny_checkpoint,
        *manifest_of(sounds, labels, path),
        *("--max-loss", 50, *SMALL, "-o", profile, "--json", output),
    )
    found = results(output)
    assert_consistent(found)
    assert found["held_out"]["profiles"][0]["figures"]["accuracy"]["value"] == 1
    assert not found["held_out"]["within_budget"], "the reduction was expected to change these answers"
    assert result.exit_code == 1
    assert "That is MORE than the budget of 50 points" in result.stdout
    assert "ratio = " in result.stdout
    assert not profile.exists()


def test_where_everything_is_lost_nothing_is_chosen(tiny_checkpoint, sounds, said, tmp_path):
    one = ("--schedules", "constant", "--start-layers", 0, "--flops-levels", "40,50,99", *SEARCH)
    output = tmp_path / "tune.json"
    manifest = manifest_of(sounds, said, tmp_path / "clips.jsonl")
    result = call(
        tiny_checkpoint,
        *manifest,
        *("--max-loss", 0, *one, "-o", tmp_path / "mine.toml", "--json", output),
    )
    found = results(output)
    assert_consistent(found)
    assert result.exit_code == 1
    assert all(ladder["unreachable"] for ladder in found["ladders"])
    assert kept_to(result.stdout) == ["-", "-"]
    assert OUT not in " ".join(result.stdout.split())
    assert "Nothing is chosen: no candidate is within the budget on the search half." in result.stdout
    assert not (tmp_path / "mine.toml").exists()


def test_finalists_are_timed_beside_full_at_the_mean_length(tiny_checkpoint, clips, tmp_path):
    output, quick = tmp_path / "tune.json", ("--objective", "latency", "--runs", 1, "--warmup", 0)
    result = call(
        tiny_checkpoint,
        *(*clips, *ANY_LOSS, *SMALL, *quick, "-o", tmp_path / "a.toml", "--json", output),
    )
    found = results(output)
    assert_consistent(found)
    timed = {case["profile"]: case["figures"]["decoder_ms"]["median"] for case in found["timing"]["results"]}
    assert next(iter(timed)) == "full"
    assert 1 < len(timed) <= 5
    assert {case["audio_seconds"] for case in found["timing"]["results"]} == {
        found["protocol"]["reference_audio_seconds"]
    }
    fastest = min(timed, key=timed.get)
    assert found["choice"] == (None if fastest == "full" else fastest)
    assert result.exit_code == (1 if fastest == "full" else 0)


def test_clips_that_fail_are_told_and_counted_nowhere(tiny_checkpoint, clips, sounds, tmp_path):
    (tmp_path / "noise.wav").write_bytes(b"no audio at all")
    for i in range(6):
        (tmp_path / f"{i}.wav").write_bytes((sounds / f"{i}.wav").read_bytes())
    with clips[1].open("a") as stream:
        stream.write('{"audio": "noise.wav", "label": "x", "task": "classify"}\n')
    output = tmp_path / "tune.json"
    arguments = (*ANY_LOSS, *SMALL, "-o", tmp_path / "a.toml", "--json", output)
    result = call(tiny_checkpoint, "--manifest", clips[1], *arguments)
    assert result.exit_code == 1
    assert [failure["id"] for failure in results(output)["failures"]] == ["noise.wav"]
    assert "failed, no figure counts it: noise.wav: " in result.stdout


def test_why_a_held_out_loss_has_no_interval_is_told(tiny_checkpoint, sounds, said, tmp_path):
    """One of its three clips has no word, so that some draws of them have none."""
    path = tmp_path / "clips.jsonl"
    lines = [{"audio": f"{i}.wav", "task": "asr", "text": text} for i, text in enumerate(said)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    held_out = halves_of(read_clips(path, audio_root=sounds), 0).held_out.clips
    lines[int(Path(held_out[0].audio).stem)]["text"] = "?"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    words = ("--manifest", path, "--audio-root", sounds, "--normalizer", "basic", *ENDING)
    few = ("--schedules", "single", "--start-layers", 0, "--flops-levels", 10, "--positions", "kept")
    result = call(tiny_checkpoint, *words, *few, "--max-loss", 10000, "-o", tmp_path / "tuned.toml")
    assert result.exit_code == 0, result.output
    told = " ".join(result.stdout.split())
    assert "Held out, 3 clips: WER" in told
    assert "(no interval, for some draws of the recordings leave the metric without a value)" in told


def wrong_in(half, sounds, said, path):
    """Clips on which `full` is never right in one half, and always in the other."""
    wrong = {clip.audio for clip in getattr(halves_of(read_clips(path, audio_root=sounds), 0), half).clips}
    labels = ["no such answer" if f"{i}.wav" in wrong else text for i, text in enumerate(said)]
    return manifest_of(sounds, labels, path)


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (
            1,
            "3 of 3 answers of full were cut off: raise --max-new-tokens, or leave out clips whose answers "
            "never end",
        ),
        (
            LIMIT,
            "full itself, with accuracy 0.00 %, is no better than empty answers: "
            "give a prompt and clips that it can answer",
        ),
    ],
)
def test_a_model_that_hardly_answers_the_search_half_is_refused(
    tiny_checkpoint, clips, said, sounds, tmp_path, limit, words
):
    listed = clips if limit == 1 else wrong_in("search", sounds, said, tmp_path / "clips.jsonl")
    small = tuple(limit if each == LIMIT else each for each in SMALL)
    result = call(tiny_checkpoint, *listed, *ANY_LOSS, *small, "-o", tmp_path / "mine.toml")
    assert result.exit_code == 2
    assert (
        f"the search half cannot tell what profiles lose, for {words}; then start again with --restart"
        in result.stderr
    )
    assert not (tmp_path / "mine.toml").exists()


def test_a_choice_that_the_held_out_half_cannot_judge_is_not_confirmed(
    tiny_checkpoint, clips, said, sounds, tmp_path
):
    listed = wrong_in("held_out", sounds, said, tmp_path / "clips.jsonl")
    profile, output = tmp_path / "mine.toml", tmp_path / "tune.json"
    result = call(tiny_checkpoint, *listed, *ANY_LOSS, *SMALL, "-o", profile, "--json", output)
    assert result.exit_code == 1
    found = results(output)
    assert_consistent(found)
    fault = (
        "the held-out half cannot tell what the choice loses, for full itself, with accuracy 0.00 %, is no "
        "better than empty answers: give a prompt and clips that it can answer"
    )
    assert (found["reason"], found["held_out"]["within_budget"]) == (fault, False)
    told = " ".join(result.stdout.split())
    assert f"Chosen: {found['choice']}." in told
    assert f"Not confirmed: {fault}. The profile is not written" in told
    assert "MORE than the budget" not in told
    assert "ratio = " in result.stdout
    assert not profile.exists()
    assert not (tmp_path / "mine.toml.work").exists()


def test_a_held_out_half_without_an_answer_confirms_nothing(tiny_checkpoint, clips, said, sounds, tmp_path):
    """Of six clips three are no audio; a seed is taken that holds out these."""
    broken = {f"{i}.wav" for i in range(3)}
    for i in range(6):
        content = b"noise %d" % i if i < 3 else (sounds / f"{i}.wav").read_bytes()
        (tmp_path / f"{i}.wav").write_bytes(content)
    read = read_clips(clips[1], audio_root=tmp_path)
    held_out = ({clip.audio for clip in halves_of(read, seed).held_out.clips} for seed in range(1000))
    seed = next(seed for seed, names in enumerate(held_out) if names == broken)
    output = tmp_path / "tune.json"
    outputs = ("-o", tmp_path / "mine.toml", "--json", output)
    listed = ("--manifest", clips[1], "--audio-root", tmp_path)
    result = call(tiny_checkpoint, *listed, *ANY_LOSS, *SMALL, "--seed", seed, *outputs)
    assert result.exit_code == 1
    found = results(output)
    assert found["choice"]
    assert found["held_out"] is None
    assert found["reason"].startswith(
        "the held-out half cannot tell what the choice loses, for no clip was answered under every profile: "
        "0.wav: "
    )
    assert "Not confirmed: the held-out half cannot tell" in " ".join(result.stdout.split())
    assert "ratio = " in result.stdout


def test_a_profile_that_is_printed_alone_is_not_lost_with_its_reader(
    tiny_checkpoint, clips, said, sounds, tmp_path, monkeypatch
):
    """Without --json, where the profile is not confirmed; with it, nothing is left to keep."""

    def gone(*_):
        raise SystemExit(1)

    monkeypatch.setattr("fastadasp.runtime.tables.tables.show", gone)
    listed = wrong_in("held_out", sounds, said, tmp_path / "clips.jsonl")
    arguments = (tiny_checkpoint, *listed, *ANY_LOSS, *SMALL, "-o", tmp_path / "mine.toml")
    result = call(*arguments)
    assert result.exit_code == 1
    assert f"stopped; {tmp_path / 'mine.toml.work'} is kept" in result.stderr
    assert call(*arguments, "--json", tmp_path / "tune.json").exit_code == 1
    assert not (tmp_path / "mine.toml.work").exists()


def test_the_demo_is_tuned_whatever_it_says(tmp_path):
    output = tmp_path / "tune.json"
    few = ("--schedules", "constant", "--start-layers", 2, "--flops-levels", "10,30")
    clips = ("--manifest", DEMO / "clips" / "transcripts.jsonl", "--prompt", "<asr>", "--max-new-tokens", 16)
    result = call(
        DEMO / "model",
        *clips,
        *few,
        *("--max-wer-increase", 5, "-o", tmp_path / "tuned.toml", "--json", output),
    )
    found = results(output)
    assert_consistent(found)
    assert (found["metrics"][0]["name"], found["max_loss"]) == ("wer", 0.05)
    confirmed = bool(found["held_out"] and found["held_out"]["within_budget"])
    assert result.exit_code == (0 if confirmed else 1)
    assert (tmp_path / "tuned.toml").exists() == confirmed


# Resumption


def test_a_run_that_was_stopped_goes_on_to_the_same_result(tiny_checkpoint, clips, tmp_path, monkeypatch):
    def arguments(name):
        return (
            tiny_checkpoint,
            *(*clips, *ANY_LOSS, *SMALL, "-o", tmp_path / f"{name}.toml"),
            *("--json", tmp_path / f"{name}.json"),
        )

    call(*arguments("undisturbed"))
    evaluate, encode, encoded = Trials.evaluate, SpeechLM.encode, []

    def stopped(trials, name, *rest):
        if name == "held-out":
            raise KeyboardInterrupt
        return evaluate(trials, name, *rest)

    monkeypatch.setattr(Trials, "evaluate", stopped)
    assert call(*arguments("stopped")).exit_code == 130
    assert (tmp_path / "stopped.toml.work").is_dir()
    monkeypatch.setattr(Trials, "evaluate", evaluate)
    monkeypatch.setattr(
        SpeechLM, "encode", lambda model, audio: encoded.append(audio) or encode(model, audio)
    )
    assert call(*arguments("stopped")).exit_code == 0
    assert len(encoded) == 3  # the held-out half alone
    assert results(tmp_path / "stopped.json") == results(tmp_path / "undisturbed.json")
    assert (tmp_path / "stopped.toml").read_text() == (tmp_path / "undisturbed.toml").read_text()
    assert not (tmp_path / "stopped.toml.work").exists()


def test_times_are_taken_once(tiny_checkpoint, clips, tmp_path, monkeypatch):
    from fastadasp.export.studies.tune import timing

    quick = ("--objective", "latency", "--runs", 1, "--warmup", 0, "-o", tmp_path / "a.toml")
    run, runs = timing.run_benchmark, []

    def counted(*args):
        runs.append(run(*args))
        return runs[-1]

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(timing, "run_benchmark", counted)
    monkeypatch.setattr("fastadasp.export.studies.tune.tune.choose", stopped)
    for _ in range(2):
        assert call(tiny_checkpoint, *clips, *ANY_LOSS, *SMALL, *quick).exit_code == 130
    assert len(runs) == 1


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "give the budget once"),
        (("--max-loss", 1, "--max-wer-increase", 1), "give the budget once"),
        (
            ("--max-wer-increase", 1),
            "--max-wer-increase is of asr; the clips are of classify: give --max-loss",
        ),
        (("--max-loss", -1), "a budget of -1"),
        (("--max-loss", 1, "--methods", "a_tome"), "method a_tome cannot be tried"),
        (("--max-loss", 1, "--start-layers", 9), "start layer 9 is out of range: the last layer is 3"),
        (("--max-loss", 1, "--flops-levels", "10,100"), "100 is not between 0 and 100"),
        (
            ("--max-loss", 1, "--flops-levels", "10,33.3333333333,60"),
            "--flops-levels 33.3333333333: each must lie between 0 and 100",
        ),
        (("--max-loss", 1, "--flops-levels", "1/0"), "is no list of percentages"),
        (("--max-loss", 1, "-o", "tuned.json"), "a profile is read by the ending .toml"),
        (("--max-loss", 1, "-o", "/dev/stdout"), "give a file such as tuned.toml"),
    ],
)
def test_bad_input_is_told_before_any_work(tiny_checkpoint, clips, tmp_path, monkeypatch, options, message):
    monkeypatch.setattr("fastadasp.export.studies.trials.build", None)  # must not be reached
    monkeypatch.chdir(tmp_path)
    output = () if "-o" in options else ("-o", "tuned.toml")
    result = call(tiny_checkpoint, *clips, *output, *options)
    assert result.exit_code == 2
    assert message in result.stderr.splitlines()[-1]


def test_a_work_folder_of_other_settings_is_refused_until_restart(
    tiny_checkpoint, clips, tmp_path, monkeypatch
):
    arguments = (tiny_checkpoint, *clips, *ANY_LOSS, *SMALL, "-o", tmp_path / "a.toml")
    with monkeypatch.context() as patch:
        patch.setattr(
            "fastadasp.export.studies.tune.tune.choose", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        call(*arguments)
    other = ("--min-new-tokens", 2)  # which every answer has
    result = call(*arguments, *other)
    assert result.exit_code == 2
    assert "other settings: search; go on with those, or start again with --restart" in result.stderr
    assert call(*arguments, *other, "--restart").exit_code == 0


def test_levels_are_exact():
    from fastadasp.export.studies.tune.options import TuneOptions

    assert TuneOptions(0.0).levels[2] == Fraction(3, 10)
