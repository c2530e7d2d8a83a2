"""`run --map`: the file of one answer, and what it does not go with."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from fastadasp.export.cli import main
from fastadasp.export.commands.row_map_file import levels_of
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles.profile import load_profile


@pytest.fixture(scope="module")
def telling(tiny_checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("telling") / "art"
    profiles = (load_profile("dense-constant-20"),)
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


def test_json_is_printed_without_the_rows(telling, clip, tmp_path):
    result = run(telling, clip, "--json", "--map", tmp_path / "map.json")
    assert "row_map" not in json.loads(result.stdout)
    assert (tmp_path / "map.json").exists()


def test_an_artifact_that_does_not_tell_is_refused_with_the_remedy(tiny_artifact, clip, tmp_path):
    result = run(tiny_artifact, clip, "--map", tmp_path / "map.json")
    assert result.exit_code == 2
    assert "build it with --row-maps" in " ".join(result.output.split())
    assert not (tmp_path / "map.json").exists()


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
