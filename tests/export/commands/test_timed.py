"""`run --segments`: what it prints in each format, says of silence, and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from demo_files import CLIPS
from fastadasp.export.cli import main
from fastadasp.runtime import SegmentOptions, SpeechLM
from fastadasp.runtime.audio.read import load_audio

RATE = 16000
ASKED = ("--prompt", "hello", "--max-new-tokens", 3, "--threads", 1)


def call(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("talk") / "talk.flac"
    clips = [load_audio(clip, RATE).samples for clip in sorted(CLIPS.parent.glob("*.flac"))[:2]]
    pause = np.zeros(2 * RATE, np.float32)
    soundfile.write(path, np.concatenate([pause, clips[0], pause, clips[1]]), RATE)
    return path


@pytest.fixture(scope="module")
def expected(tiny_artifact: Path, talk: Path) -> list[Any]:
    options = SegmentOptions(max_seconds=6.0)
    model = SpeechLM.load(tiny_artifact, threads=1)
    return list(model.segments(talk, "hello", max_new_tokens=3, segmenting=options))


def printed(artifact: Path, talk: Path, *words: object) -> Result:
    return call("run", artifact, talk, *ASKED, "--segments", "--max-segment-seconds", 6, *words)


def test_lines_with_times_are_printed(tiny_artifact: Path, talk: Path, expected: list[Any]) -> None:
    result = printed(tiny_artifact, talk)
    lines = result.stdout.splitlines()
    assert len(lines) == len(expected) == 2
    for line, segment in zip(lines, expected, strict=True):
        assert line.startswith(f"[00:00:0{segment.start:.3f} --> 00:00:")
        assert line.endswith(f"] {' '.join(segment.text.split())}")
    assert f"{talk}: 2 segments, " in result.stderr
    assert "2 of them ended at --max-new-tokens, so text may be missing" in result.stderr


def test_several_segments_at_once_are_printed_in_order(tiny_artifact: Path, talk: Path) -> None:
    one, two = printed(tiny_artifact, talk), printed(tiny_artifact, talk, "--at-once", 2)
    assert one.stdout == two.stdout


def test_several_clips_are_named(tiny_artifact: Path, talk: Path) -> None:
    lines = call("run", tiny_artifact, talk, talk, *ASKED, "--segments").stdout.splitlines()
    assert lines
    assert all(line.startswith(f"{talk}\t[00:00:0") for line in lines)
    assert len(set(lines)) * 2 == len(lines)


@pytest.mark.parametrize(("form", "head"), [("srt", "1\n00:00:0"), ("vtt", "WEBVTT\n\n00:00:0")])
def test_subtitles_are_printed(
    tiny_artifact: Path, talk: Path, form: str, head: str, expected: list[Any]
) -> None:
    text = printed(tiny_artifact, talk, "--format", form).stdout
    assert text.startswith(head)
    assert text.count(" --> ") == sum(bool(segment.text.strip()) for segment in expected) > 0


def test_json_has_all_that_is_known(tiny_artifact: Path, talk: Path, expected: list[Any]) -> None:
    whole = json.loads(printed(tiny_artifact, talk, "--format", "json").stdout)
    lines = printed(tiny_artifact, talk, "--format", "jsonl").stdout.splitlines()
    assert whole["clip"] == str(talk)
    assert whole["text"] == " ".join(segment.text for segment in expected if segment.text)
    for found, line, segment in zip(whole["segments"], map(json.loads, lines), expected, strict=True):
        assert line.pop("clip") == str(talk)
        assert line.keys() == found.keys() >= {"start", "end", "text", "hypotheses", "latency"}
        assert (found["start"], found["end"], found["text"]) == (segment.start, segment.end, segment.text)
        assert found["hypotheses"] == line["hypotheses"]


def test_silence_is_told(tiny_artifact: Path, tmp_path: Path) -> None:
    path = tmp_path / "silence.wav"
    soundfile.write(path, np.zeros(3 * RATE), RATE)
    result = call("run", tiny_artifact, path, *ASKED, "--segments")
    assert result.stdout == ""
    assert f"{path}: no speech in 00:00:03.000 of audio" in result.stderr


def test_a_clip_that_cannot_be_read_stops_no_others(tiny_artifact: Path, talk: Path, tmp_path: Path) -> None:
    result = call("run", tiny_artifact, tmp_path / "none.wav", talk, *ASKED, "--segments", code=1)
    assert "none.wav does not exist" in result.stderr
    assert f"{talk}\t[00:" in result.stdout


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--format", "srt"], "--format: of --segments, which is not given"),
        (["--min-pause", "1", "--merge-seconds", "9"], "--min-pause, --merge-seconds: of --segments"),
        (["--at-once", "2"], "--at-once: of --segments"),
        (["--segments", "--at-once", "100000"], "100000 is not in the range 1<=x<=128"),
        (["--segments", "--stream"], "--segments and --stream exclude each other"),
        (["--segments", "--json"], "--segments and --json exclude each other: give --format json or jsonl"),
        (["--segments", "--format", "vtt", "more.wav"], "--format vtt holds one recording"),
        (
            ["--segments", "--beams", "2", "--num-return-sequences", "2"],
            "--num-return-sequences: --format text shows one answer a segment",
        ),
        (["--segments", "--speech-threshold", "2"], "threshold is 2.0: give a probability"),
        (["--segments", "--max-segment-seconds", "0"], "--max-segment-seconds is 0.0: give seconds"),
        (["--segments", "--format", "ass"], "'ass' is not one of"),
    ],
)
def test_what_has_no_meaning_is_refused_before_anything_is_loaded(words: list[str], fault: str) -> None:
    result = call("run", "no-artifact", "clip.wav", *words, code=2)
    assert fault in " ".join(result.stderr.split())
