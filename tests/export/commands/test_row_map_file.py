"""`run --map`: the file of one answer, and what it does not go with."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from fastadasp.evaluation.report.page import sections
from fastadasp.evaluation.report.sections.row_maps import CLASSES
from fastadasp.evaluation.results.files import read_results
from fastadasp.export.cli import main
from fastadasp.export.commands.row_map_file import levels_of
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles.profile import Profile, load_profile
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.artifact.artifact import open_artifact
from fastadasp.runtime.artifact.manifest import FILE_NAME
from fastadasp.runtime.choice.figures import Accuracy, Figures, Latency, Loss, Machine, MeasuredClips, Timed

POOLED = Profile("pooled", "uniform_merge", "input", ratio=Fraction(1, 2))


@pytest.fixture(scope="module")
def telling(tiny_checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("telling") / "art"
    profiles = (load_profile("dense-constant-20"), POOLED)
    build(tiny_checkpoint, folder, BuildOptions(profiles, weights="copy", row_maps=True))
    return folder


def run(*args: object):
    return CliRunner().invoke(main, ["run", *map(str, args), "--max-new-tokens", "4"])


def test_the_file_has_the_rows_of_every_layer_below_the_waveform(telling, clip, tmp_path):
    result = run(telling, clip, "--map", tmp_path / "map.json")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "map.json").read_text("utf-8"))
    assert (found["kind"], found["clip"], found["profile"]) == ("row-map", "clip.wav", "dense-constant-20")
    assert found["text"] in result.stdout
    assert found["audio_seconds"] == 3.0
    assert [layer["layer"] for layer in found["layers"]] == [0, 1, 2, 3]
    rows = [len(layer["starts"]) for layer in found["layers"]]
    assert rows[0] == 75 > rows[-1]
    assert found["layers"][-1]["ends"][-1] == 3.0


def test_the_report_counts_the_audio_tokens_that_merge_before_the_first_layer(telling, clip, tmp_path):
    path, asked = tmp_path / "map.json", ("--profile", POOLED.name, "--map")
    assert run(telling, clip, *asked, path).exit_code == 0
    found = read_results([path]).files[0].found
    assert np.array(found.boundaries) == pytest.approx(0.04 * np.arange(76))
    (section, *_) = sections(read_results([path]))
    *_, bars = section.plots[0].figure["data"]
    pairs, single = ["2 in one"] * 37, [""]  # 75 rows become 38, in each of the layers
    assert sorted(line.partition(" s<br>")[2] for line in bars["hovertext"]) == sorted([*pairs, *single] * 4)
    assert Counter(bars["marker"]["color"]) == {CLASSES[1][-1]: 4 * 37, CLASSES[0][-1]: 4}


def test_json_is_printed_without_the_rows(telling, clip, tmp_path):
    result = run(telling, clip, "--json", "--map", tmp_path / "map.json")
    assert "row_map" not in json.loads(result.stdout)
    assert (tmp_path / "map.json").exists()


def test_an_artifact_that_does_not_tell_is_refused_with_the_remedy(tiny_artifact, clip, tmp_path):
    result = run(tiny_artifact, clip, "--map", tmp_path / "map.json")
    assert result.exit_code == 2
    assert "build it with --row-maps" in " ".join(result.output.split())
    assert not (tmp_path / "map.json").exists()


def test_a_clip_that_is_too_long_is_refused_by_its_name_while_it_is_decoded(telling, tmp_path, monkeypatch):
    place, checked = tmp_path / "long.wav", []
    soundfile.write(place, np.full(16000 * 400, 0.1, np.float32), 16000)
    monkeypatch.setattr(SpeechLM, "generate", lambda *_, **__: checked.append("decoded"))
    result = run(telling, place, "--map", tmp_path / "map.json")
    assert result.exit_code == 2
    assert f"audio {place}: 400.0 s take" in " ".join(result.output.split())
    assert not checked


def test_audio_of_which_a_request_makes_nothing_is_refused_by_its_name(telling, tmp_path):
    place = tmp_path / "short.wav"
    soundfile.write(place, np.full(80, 0.1, np.float32), 16000)
    result = run(telling, place, "--map", tmp_path / "map.json")
    assert result.exit_code == 2
    assert f"audio {place}: 5.0 ms give no audio token" in " ".join(result.output.split())


def test_a_clip_may_come_through_a_pipe(telling, clip, tmp_path):
    words = ["run", str(telling), "-", "--max-new-tokens", "4", "--map", str(tmp_path / "map.json")]
    piped = CliRunner().invoke(main, words, input=clip.read_bytes())
    assert piped.exit_code == 0, piped.output
    assert piped.stdout == run(telling, clip).stdout


def test_a_profile_that_was_chosen_is_told_and_was_loaded_before(telling, clip, tmp_path, monkeypatch):
    art = tmp_path / "art"
    shutil.copytree(telling, art)
    clips, machine = MeasuredClips("c", "0" * 64, 40, 40, 4.0), Machine("another", None, 2)
    name, loss = "dense-constant-20", Loss(0.1, 0, 0.2, 1)
    accuracy = Accuracy("asr", "WER", "full", clips, 30, {name: loss})
    times = tuple(Timed(1, float(second), 50.0) for second in (1, 2, 4))
    figures = Figures(accuracy, Latency(machine, 8, {name: times}))
    manifest = replace(open_artifact(art).manifest, figures=figures)
    (art / FILE_NAME).write_text(manifest.to_json(), "utf-8")
    loaded, prepare = [], SpeechLM.prepare
    monkeypatch.setattr(
        SpeechLM, "prepare", lambda model, *names: [loaded.append(names), prepare(model, *names)]
    )
    result = run(art, clip, "--profile", "auto", "--latency-budget", 9, "--map", tmp_path / "map.json")
    assert result.exit_code == 0, result.output
    assert [name in names for names in loaded] == [True]
    assert f"{clip}: {name}: " in result.stderr


def test_inspect_says_that_an_artifact_tells(telling, tiny_artifact):
    told = "which say where rows come from (run --map)"
    shown = [CliRunner().invoke(main, ["inspect", str(art)]).output for art in (telling, tiny_artifact)]
    assert [told in " ".join(text.split()) for text in shown] == [True, False]


@pytest.mark.parametrize("other", ["--stream", "--segments"])
def test_a_map_is_of_one_whole_answer(telling, clip, tmp_path, other):
    result = run(telling, clip, other, "--map", tmp_path / "map.json")
    assert result.exit_code == 2
    assert "--map is of one answer" in result.output
    result = run(telling, clip, clip, "--map", tmp_path / "map.json")
    assert result.exit_code == 2
    assert "give one CLIP" in result.output


def test_levels_are_those_of_the_loudest_samples():
    assert levels_of(np.array([0.1, -0.5, 0.2, 2.0], np.float32), 2) == (0.5, 1.0)
    assert levels_of(np.array([0.25], np.float32), 800) == (0.25,)
