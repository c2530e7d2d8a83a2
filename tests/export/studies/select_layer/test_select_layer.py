"""The command from end to end: figures, profile, results, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from demo_files import DEMO
from fastadasp.evaluation import EvalOptions, evaluate
from fastadasp.evaluation.clips.clip import Clip, ClipSet
from fastadasp.evaluation.results.files import result_text
from fastadasp.evaluation.results.selection import SELECTION_FORMAT, TransferEntropy
from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.cli import main
from fastadasp.export.model.families.family import load_model
from fastadasp.export.model.fit import resolve_for
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.export.studies.select_layer.accuracy import measure_layers
from fastadasp.export.studies.select_layer.candidates import candidate_layers
from fastadasp.export.studies.select_layer.options import SelectionOptions
from fastadasp.export.studies.select_layer.rank_correlation import rank_correlation
from fastadasp.export.studies.select_layer.result import selection_result
from fastadasp.export.studies.select_layer.select_layer import select_layer
from fastadasp.export.studies.select_layer.table import selection_sections
from fastadasp.profiles.errors import CheckpointError, ProfileError, RequestError
from fastadasp.profiles.keys import POSITIONS
from fastadasp.profiles.profile import load_profile, parse_profile
from fastadasp.profiles.schedule import removed
from fastadasp.runtime.decoding.options import SearchOptions
from fastadasp.runtime.tables.tables import Section
from golden_folder import CONFIG, write_golden

pytestmark = pytest.mark.usefixtures("one_thread")
OPTIONS = SelectionOptions(Fraction(1, 4), resamples=50)
SEARCH = SearchOptions(max_new_tokens=8)


def clip_set(clips):
    return ClipSet(Path("clips.jsonl"), "asr", tuple(clips))


def written(selection):
    """What the result file holds."""
    return json.loads(result_text(selection_result(selection)))


def clip_at(path, prompt=""):
    return Clip(path.name, None, path.name, path, "asr", ("what is said",), prompt)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A sweep in noise each: rows that differ."""
    folder, found = tmp_path_factory.mktemp("clips"), []
    for i, seconds in enumerate((1.3, 2.0, 3.1)):
        rng, time = np.random.default_rng(i), np.arange(int(16000 * seconds)) / 16000
        wave = 0.3 * np.sin(2 * np.pi * (200 + 300 * (i + 1) * time) * time)
        found.append(clip_at(folder / f"{i}.wav", f"clip {i}"))
        soundfile.write(found[-1].path, wave + 0.05 * rng.standard_normal(len(time)), 16000)
    return found


@pytest.fixture(scope="module")
def manifest(clips):
    path = clips[0].path.with_name("clips.jsonl")
    lines = [{"audio": clip.audio, "prompt": clip.prompt, "text": clip.references[0]} for clip in clips]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


@pytest.fixture(scope="module")
def selection(tiny_checkpoint, clips):
    return select_layer(tiny_checkpoint, clip_set(clips), OPTIONS)


def call(*args, task="asr"):
    command = ["select-layer", *map(str, args), "--task", task]
    result = CliRunner().invoke(main, command, env={"COLUMNS": "80"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def assert_consistent(found):
    """What holds of the JSON of any selection."""
    assert (found["kind"], found["format_version"]) == ("select-layer", SELECTION_FORMAT)
    rows = found["layers"]
    assert [row["layer"] for row in rows] == list(range(len(rows)))
    feasible = [row for row in rows if row["infeasible"] is None]
    by_entropy = sorted(feasible, key=lambda row: row["entropy"]["transfer_entropy"])
    assert [row["rank"] for row in by_entropy] == list(range(1, len(feasible) + 1))
    assert found["selected"] == by_entropy[0]["layer"]
    for row in feasible:
        entropy = row["entropy"]
        assert entropy["transfer_entropy"] == abs(entropy["at_last"] - entropy["at_layer"])
        assert entropy["transfer_entropy"] <= entropy["per_channel"] * (1 + 1e-9)
        assert 1 <= row["spread"]["low"] <= row["spread"]["high"] <= len(feasible)
    for row in rows:
        if row["infeasible"] is not None:
            assert row["reachable"] < float(Fraction(found["protocol"]["flops_reduction"]))
            assert (row["ratio"], row["entropy"], row["rank"], row["spread"]) == (None,) * 4
    assert sum(row["spread"]["best"] for row in feasible) == pytest.approx(1)
    assert found["environment"]["libraries"]["torch"]


@pytest.mark.parametrize("positions", POSITIONS)
def test_clips_of_the_demo_give_a_profile_that_meets_the_target(own_clips, tmp_path, positions):
    """On whatever model and clips the demo has."""
    profile, results = tmp_path / "mine.toml", tmp_path / "results.json"
    result = call(
        DEMO / "model",
        "--manifest",
        own_clips,
        "--flops",
        30,
        "--positions",
        positions,
        "--resamples",
        50,
        "-o",
        profile,
        "--json",
        results,
    )
    assert result.exit_code == 0, result.output
    assert f"transfer entropy of one merge, positions {positions}" in " ".join(result.output.split())
    found = json.loads(results.read_text("utf-8"))
    assert_consistent(found)
    assert found["clips"]["count"] == found["clips"]["measured"] == 3
    assert found["intervals"]["resamples"] == 50
    chosen = load_profile(str(profile))
    assert (chosen.method, chosen.schedule, chosen.positions) == ("weighted_merge", "single", positions)
    assert chosen.start_layer == found["selected"]
    assert str(chosen.ratio) == found["layers"][found["selected"]]["ratio"]
    assert parse_profile(found["profile"], "mine", "results") == chosen
    resolved = resolve_for(chosen, load_model(Checkpoint(DEMO / "model")))
    assert resolved.reducing_layers == (found["selected"],)
    assert "warning: 3 clips: entropies need 32 or more to be trusted" in result.stderr


def test_the_table_has_a_row_a_layer_and_fits_80_columns(tiny_checkpoint, manifest):
    result = call(tiny_checkpoint, "--manifest", manifest, "--flops", 25, "--resamples", 50)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "3 clips, 6.4 s of audio" in lines[0]
    rows = [line.split() for line in lines if line[:1].isdigit()]
    assert [row[0] for row in rows] == ["0", "1", "2", "3"]
    assert rows[0][1] == "yes"
    assert "the last layer: nothing is saved" in " ".join(result.stdout.split())
    assert any(line.startswith("layer ") and "is selected, ratio" in line for line in lines)


def test_a_seed_repeats_all_figures(tiny_checkpoint, clips, selection):
    again = select_layer(tiny_checkpoint, clip_set(clips), OPTIONS)
    assert again.layers == selection.layers
    other = select_layer(
        tiny_checkpoint, clip_set(clips), SelectionOptions(Fraction(1, 4), resamples=50, seed=1)
    )
    assert [row.entropy for row in other.layers] == [row.entropy for row in selection.layers]
    assert_consistent(written(other))


def test_the_order_of_the_clips_does_not_matter(tiny_checkpoint, clips, selection):
    turned = select_layer(tiny_checkpoint, clip_set(clips[::-1]), OPTIONS)
    for one, other in zip(turned.layers, selection.layers, strict=True):
        assert (one.rank, one.ratio) == (other.rank, other.ratio)
        if one.entropy is not None:
            assert one.entropy.transfer_entropy == pytest.approx(other.entropy.transfer_entropy)


def test_the_last_layer_whose_transfer_entropy_is_0_is_never_selected(tiny_checkpoint, clips):
    found = select_layer(tiny_checkpoint, clip_set(clips), SelectionOptions(Fraction(1, 100), resamples=50))
    last = found.layers[-1]
    assert (last.reachable, last.entropy, last.infeasible) == (
        0,
        None,
        "the last layer: nothing is saved",
    )
    assert found.selected < last.layer


def test_a_choice_that_rests_on_channels_that_cancel_has_a_warning(selection):
    """TE chooses among made-up figures: layer 1 by the sum, layer 0 channel by channel."""
    entropies = TransferEntropy(2.0, 5.0, 3.0, 2.0), TransferEntropy(1.0, 5.0, 4.0, 9.0)
    rows = [replace(selection.layers[i], entropy=entropy) for i, entropy in enumerate(entropies)]
    found = replace(selection, layers=(*rows, *selection.layers[3:]), selected=1)
    expected = "at layer 1 channels that gain and channels that lose entropy cancel: by L1, layer 0 is first"
    assert expected in list(found.warnings)
    assert expected not in list(replace(found, selected=0).warnings)


def test_rows_around_the_audio_are_no_part_of_the_entropy(clips, tmp_path):
    """Qwen-Audio sets a row before the frames and one after them; its prompt begins with the audio."""
    write_golden(tmp_path / "qwen_audio", [])
    words = {f"word{i}": i for i in range(50)} | {"<audio>": CONFIG["audio"]["audio_start_id"]}
    Tokenizer(WordLevel(words, "word0")).save(str(tmp_path / "qwen_audio" / "tokenizer.json"))
    short = [replace(clip, prompt="word7") for clip in clips[:2]]
    found = select_layer(tmp_path / "qwen_audio", clip_set(short), OPTIONS)
    assert_consistent(written(found))
    front_end = load_model(Checkpoint(tmp_path / "qwen_audio")).front_end
    assert (front_end.bos_rows, front_end.eos_rows) == (1, 1)
    frames = [front_end.audio_tokens(soundfile.info(clip.path).frames) for clip in short]
    left = sum(count - removed(count, found.profile.ratio) for count in frames)
    assert found.protocol.audio_tokens_after_the_merge == left


def test_one_clip_has_ranks_and_no_spread(tiny_checkpoint, clips):
    found = select_layer(tiny_checkpoint, clip_set(clips[:1]), OPTIONS)
    assert {row.spread for row in found.layers} == {None}
    assert sorted(row.rank for row in found.layers if row.rank) == [1, 2, 3]


def test_clips_of_one_recording_are_drawn_together(tiny_checkpoint, clips):
    again = replace(clips[0], id="again", prompt="another")
    alone = select_layer(tiny_checkpoint, clip_set([clips[0], again]), OPTIONS)
    assert {row.spread for row in alone.layers} == {None}
    beside = select_layer(tiny_checkpoint, clip_set([*clips[:2], again]), OPTIONS)
    turned = select_layer(tiny_checkpoint, clip_set([clips[0], again, clips[1]]), OPTIONS)
    assert [row.spread for row in beside.layers] == [row.spread for row in turned.layers]
    assert any(row.spread for row in beside.layers)


def test_progress_is_told_before_each_clip_and_at_the_end(tiny_checkpoint, clips):
    told = []
    select_layer(tiny_checkpoint, clip_set(clips), OPTIONS, lambda done, total: told.append((done, total)))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


# Accuracy


@pytest.fixture(scope="module")
def with_accuracy(tiny_checkpoint, clips, selection, tmp_path_factory):
    levels, options = (Fraction(1, 4), Fraction(3, 8)), EvalOptions(search=SEARCH, resamples=50)
    folder = tmp_path_factory.mktemp("work")
    return selection.with_accuracy(
        measure_layers(tiny_checkpoint, clip_set(clips), OPTIONS, levels, options, folder)
    )


def test_every_layer_that_reaches_a_level_is_evaluated_at_it(with_accuracy, selection):
    accuracy = with_accuracy.accuracy
    assert [row.layer in accuracy.values(Fraction(1, 4)) for row in with_accuracy.layers] == [
        row.infeasible is None for row in selection.layers
    ]
    assert set(accuracy.values(Fraction(1, 4))) > set(accuracy.values(Fraction(3, 8)))
    assert with_accuracy.layers == selection.layers


def test_figures_are_those_of_an_evaluation_of_that_profile(with_accuracy, tiny_checkpoint, clips, tmp_path):
    profile = replace(with_accuracy.profile, name="mine")
    build(tiny_checkpoint, tmp_path / "art", BuildOptions((load_profile("full"), profile)))
    found = evaluate(tmp_path / "art", clip_set(clips), EvalOptions(search=SEARCH, resamples=50))
    accuracy = with_accuracy.accuracy
    assert accuracy.full == found.profiles[0].figures
    assert accuracy.figures(with_accuracy.selected, Fraction(1, 4)) == found.profiles[1].figures


def test_accuracies_are_in_the_file_by_metric_and_level(with_accuracy):
    found = written(with_accuracy)
    assert_consistent(found)
    accuracy = found["accuracy"]
    assert (accuracy["metrics"][0]["name"], accuracy["levels"]) == ("wer", ["1/4", "3/8"])
    for level in accuracy["levels"]:
        reached = [row for row in found["layers"] if level in row["accuracy"]]
        values = {row["layer"]: row["accuracy"][level]["wer"]["value"] for row in reached}
        assert values[accuracy["best"][level]] == min(values.values())
        entropies = [row["entropy"]["transfer_entropy"] for row in reached]
        expected = rank_correlation(entropies, list(values.values()))
        assert accuracy["rank_correlation"][level] == {"rho": expected.rho, "count": expected.count}
        assert expected.count == len(reached)
    assert accuracy["full"]["wer"]["delta"] is None
    reached = [list(row["accuracy"]) for row in found["layers"]]
    assert reached == [["1/4", "3/8"], ["1/4", "3/8"], ["1/4"], []]  # out of reach of later layers


def test_the_accuracies_are_tables_like_those_of_the_paper(with_accuracy):
    sections = [part for part in selection_sections(with_accuracy) if isinstance(part, Section)]
    _, figures, verdict = sections
    assert [column.header for column in figures.table.columns] == ["layer", "TE", "rank", "25 %", "37.5 %"]
    cells = [list(column.cells) for column in figures.table.columns]
    assert cells[0] == ["0", "1", "2", "3", "full"]
    wer = with_accuracy.accuracy.full[0].value
    assert cells[3][-1] == cells[4][-1] == f"{100 * wer:.2f}"
    assert list(verdict.table.columns[0].cells) == ["25 %", "37.5 %"]
    assert f"Is layer {with_accuracy.selected}, of the lowest TE, the best one?" in verdict.title


def test_clips_that_fail_in_the_evaluation_alone_are_named_with_their_reasons(with_accuracy):
    accuracy = with_accuracy.accuracy
    first, *others = accuracy.evaluation.answers
    answers = (replace(first, failures={"full": "too long", "layer-0-flops-25": "too long"}), *others)
    failed = replace(accuracy, evaluation=replace(accuracy.evaluation, answers=answers))
    parts = list(selection_sections(with_accuracy.with_accuracy(failed)))
    _, figures, failures, _ = (part for part in parts if isinstance(part, Section))
    assert figures.legend == "of 2 of 3 clips; TE and rank: at 25 %"
    assert failures.title == "1 of 3 clips failed in the evaluation: no WER counts them"
    assert [list(column.cells) for column in failures.table.columns] == [["0.wav"], ["-"], ["too long"]]


def test_the_command_evaluates_at_its_target_unless_levels_are_given(tiny_checkpoint, manifest, tmp_path):
    options = ("--flops", 25, "--resamples", 50, "--accuracy", "--max-new-tokens", 4)
    results = tmp_path / "results.json"
    result = call(tiny_checkpoint, "--manifest", manifest, *options, "--json", results)
    assert result.exit_code == 0, result.output
    assert json.loads(results.read_text("utf-8"))["accuracy"]["levels"] == ["1/4"]
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "3 recordings are few: layers may differ by chance" in result.stdout
    assert not results.with_name("results.json.work").exists()


def test_a_reference_without_text_is_refused_before_entropies_are_estimated(tiny_checkpoint, tmp_path):
    (tmp_path / "a.wav").write_bytes(b"no audio at all")  # which is told by whoever reads it
    line = {"audio": "a.wav", "label": "<happy>"}
    (tmp_path / "clips.jsonl").write_text(json.dumps(line), "utf-8")
    result = call(tiny_checkpoint, "--manifest", tmp_path / "clips.jsonl", "--accuracy", task="classify")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == "  clip a.wav: '<happy>'"


def test_levels_without_accuracy_are_refused(tiny_checkpoint, manifest):
    result = call(tiny_checkpoint, "--manifest", manifest, "--flops-levels", "10")
    assert result.exit_code == 2
    assert "--flops-levels: of --accuracy, which is not given" in result.stderr


# What is refused


def test_a_decoder_of_one_layer_is_no_matter_of_the_target(tiny_checkpoint, clips, monkeypatch):
    module, all_layers = "fastadasp.export.studies.select_layer.select_layer", candidate_layers
    monkeypatch.setattr(f"{module}.candidate_layers", lambda *given: all_layers(*given)[-1:])
    with pytest.raises(ProfileError) as refused:
        select_layer(tiny_checkpoint, clip_set(clips), OPTIONS)
    assert str(refused.value) == (
        "a FLOPs reduction of 25 % is infeasible with one merge, even at layer 3 "
        "(the last layer: nothing is saved): reduce at the input"
    )


def test_a_target_out_of_reach_is_refused_with_the_best_layer(tiny_checkpoint, clips):
    with pytest.raises(
        ProfileError,
        match=r"99\.9 % is infeasible with one merge, even at layer 0 \(at most \d+\.\d\d %\): lower",
    ):
        select_layer(tiny_checkpoint, clip_set(clips), SelectionOptions(Fraction(999, 1000)))


UNFIT = {"are all alike": 700, "give no audio token": 100, "1024 positions": 16000 * 60}
"""Why a clip has no entropy, and how many samples it then has."""


def unfit(folder, reason):
    """A clip without entropy, of one audio token for the first reason."""
    path = folder / "unfit.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(UNFIT[reason]), 16000)
    return clip_at(path, "clip 0")


@pytest.mark.parametrize("reason", UNFIT)
def test_a_clip_without_entropy_is_listed_and_in_no_figure(tiny_checkpoint, clips, tmp_path, reason):
    options = replace(OPTIONS, reference_seconds=Fraction(3))
    alone = select_layer(tiny_checkpoint, clip_set(clips), options)
    found = select_layer(tiny_checkpoint, clip_set([unfit(tmp_path, reason), *clips]), options)
    (failure,) = found.failures
    assert (failure.id, failure.profiles) == ("unfit.wav", ())
    assert re.search(f"unfit.wav: .*{reason}", failure.reason)
    assert (found.clips.count, found.clips.measured, found.clips.recordings) == (4, 3, 3)
    assert (found.layers, found.protocol) == (alone.layers, alone.protocol)
    assert selection_result(found).failures == found.failures


def test_the_command_tells_of_clips_without_entropy_and_writes_the_others(
    tiny_checkpoint, manifest, tmp_path
):
    short, mixed = unfit(manifest.parent, "give no audio token"), manifest.with_name("mixed.jsonl")
    line = json.dumps({"audio": short.audio, "text": "what is said"})
    mixed.write_text(manifest.read_text("utf-8") + line + "\n", "utf-8")
    options = ("--flops", 25, "--resamples", 50, "-o", tmp_path / "mine.toml")
    result = call(tiny_checkpoint, "--manifest", mixed, *options)
    assert result.exit_code == 1, result.output
    assert load_profile(str(tmp_path / "mine.toml")).traits.reduces
    assert "1 of 4 clips have no entropies, and no TE counts them" in result.stdout
    assert "give no audio token" in " ".join(result.stdout.split())
    assert "warning: 3 clips: entropies need 32 or more to be trusted" in result.stderr
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize("reason", UNFIT)
def test_clips_of_which_none_has_an_entropy_are_refused(tiny_checkpoint, tmp_path, reason):
    options = replace(OPTIONS, reference_seconds=Fraction(3))
    with pytest.raises(
        RequestError, match=f"^none of 1 clips has entropies to estimate; the first: .*unfit.wav: .*{reason}"
    ):
        select_layer(tiny_checkpoint, clip_set([unfit(tmp_path, reason)]), options)


def test_a_checkpoint_without_tokenizer_is_refused(tiny_checkpoint, clips, tmp_path):
    bare = shutil.copytree(tiny_checkpoint, tmp_path / "bare")
    (bare / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json"):
        select_layer(bare, clip_set(clips), OPTIONS)


def test_no_clip_is_refused(tiny_checkpoint):
    with pytest.raises(RequestError, match="no clip"):
        select_layer(tiny_checkpoint, clip_set([]), OPTIONS)


def test_a_line_that_is_no_clip_is_refused_by_its_number(tiny_checkpoint, tmp_path):
    path = tmp_path / "clips.jsonl"
    path.write_text('["two.wav"]\n', "utf-8")
    result = call(tiny_checkpoint, "--manifest", path)
    assert result.exit_code == 2
    assert "line 1: is ['two.wav'], not an object; write" in result.stderr


@pytest.mark.parametrize("output", ["mine.json", "no/such/folder/mine.toml", "in valid.toml"])
def test_a_bad_output_is_refused_before_any_work(tiny_checkpoint, manifest, tmp_path, monkeypatch, output):
    monkeypatch.setattr(
        "fastadasp.export.studies.select_layer.select_layer.SpecDecoder", None
    )  # must not be reached
    result = call(tiny_checkpoint, "--manifest", manifest, "-o", tmp_path / output)
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stderr.startswith("Error: ")
