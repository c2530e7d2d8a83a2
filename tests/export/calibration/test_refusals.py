"""Clips that no request could hold calibrate nothing, and neither do options without a clip list."""

from __future__ import annotations

from dataclasses import replace

import pytest
from click.testing import CliRunner

from demo_files import DEMO
from fastadasp.evaluation.clips.read import read_clips_of_any_task
from fastadasp.export.calibration.calibrate import calibrated
from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.cli import main
from fastadasp.export.model.families.family import load_model
from fastadasp.profiles.errors import RequestError

pytestmark = pytest.mark.usefixtures("one_thread")


def test_an_answer_beyond_the_positions_is_refused_with_its_clip():
    checkpoint = Checkpoint(DEMO / "model")
    model = load_model(checkpoint)
    clip = read_clips_of_any_task(DEMO / "clips/transcripts.jsonl")[0]
    words = "one " * model.decoder.max_positions
    long = replace(clip, references=(words,))
    with pytest.raises(RequestError, match=rf"{clip.path.name}: its answer takes \d+ positions after \d+ of"):
        calibrated(model, checkpoint, [long], 32)


def test_a_folder_of_audio_without_a_clip_list_is_refused(tmp_path):
    command = ["build", DEMO / "model", "-o", tmp_path / "ART", "--profile", "full", "--audio-root", tmp_path]
    result = CliRunner().invoke(main, list(map(str, command)))
    assert result.exit_code == 2
    assert "--audio-root: where the clips of --calibration are" in " ".join(result.stderr.split())
