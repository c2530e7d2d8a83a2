"""`build --word-heads`: what it takes, and what `run --json` then says."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from fastadasp.export.cli import main
from fastadasp.profiles.signature import WordHeads
from fastadasp.runtime.artifact.artifact import open_artifact


def call(*args: object):
    return CliRunner().invoke(main, list(map(str, args)))


@pytest.fixture(scope="module")
def worded(tiny_checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("worded") / "art"
    result = call("build", tiny_checkpoint, "-o", folder, "--profile", "full", "--word-heads", "1.0,1.2")
    assert result.exit_code == 0, result.output
    return folder


def test_the_artifact_tells_the_heads_and_where_rows_come_from(worded):
    decoder = open_artifact(worded).manifest.decoder
    assert (decoder.word_heads, decoder.row_maps) == (WordHeads(1, (0, 2)), True)


def test_answers_have_words_with_times_in_json_where_the_artifact_tells_them(worded, tiny_artifact, clip):
    found, plain = (
        json.loads(call("run", art, clip, "--json", "--max-new-tokens", 4).stdout)
        for art in (worded, tiny_artifact)
    )
    assert [word["text"] for word in found["words"]] == found["text"].split()
    assert all(0 <= word["start"] < 3 for word in found["words"])
    assert {type(word["confident"]) for word in found["words"]} == {bool}
    assert "words" not in plain
    assert "scored_text" not in found  # nobody can ask for it here


def test_inspect_says_that_an_artifact_tells(worded, tiny_artifact):
    told = "heads 1.0, 1.2 say when words begin"
    shown = [call("inspect", art).output for art in (worded, tiny_artifact)]
    assert [told in " ".join(text.split()) for text in shown] == [True, False]


def test_a_profile_under_which_heads_keep_other_rows_is_refused_beside_them(tiny_checkpoint, tmp_path):
    (tmp_path / "h2o.toml").write_text('method = "h2o"\nschedule = "constant"\nratio = 0.3\n')
    words = "build", tiny_checkpoint, "-o", tmp_path / "art", "--word-heads", "1.0"
    result = call(*words, "--profile", f"full,{tmp_path / 'h2o.toml'}")
    assert result.exit_code == 2
    assert "word_heads beside profile h2o: each head keeps other rows" in result.stderr
    assert "build two artifacts, that with word_heads without h2o" in result.stderr
    assert not (tmp_path / "art").exists()


@pytest.mark.parametrize(
    ("heads", "fault"),
    [
        ("1.0,2.0", "has heads of layers 1, 2: give those of one layer"),
        ("1", "no list of heads such as 7.0,7.1"),
        ("1.9", "there is no head 9 in a layer; give those of 0 to 3"),
    ],
)
def test_other_heads_are_refused(tiny_checkpoint, tmp_path, heads, fault):
    result = call(
        "build", tiny_checkpoint, "-o", tmp_path / "art", "--profile", "full", "--word-heads", heads
    )
    assert result.exit_code == 2
    assert fault in " ".join(result.output.split())
