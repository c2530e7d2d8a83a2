"""What answers clips loads the artifact that the run was begun with, or none."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest

from fastadasp.evaluation.answers.peak_memory import peak_memory
from fastadasp.evaluation.answers.piped import PipedProcess
from fastadasp.evaluation.answers.spawning import without_ctrl_c
from fastadasp.evaluation.answers.workers import Job, answer_clips, end_with_parent
from fastadasp.evaluation.clips.clip import Clip
from fastadasp.profiles.errors import ArtifactError
from fastadasp.runtime.artifact.artifact import open_artifact
from fastadasp.runtime.decoding.options import SearchOptions
from fastadasp.runtime.runtime_options import RuntimeOptions


def test_another_artifact_in_the_place_of_the_first_is_refused(tiny_artifact: Path) -> None:
    digest = open_artifact(tiny_artifact).manifest.digest
    settings = (("full",), SearchOptions(), RuntimeOptions())
    assert callable(Job(tiny_artifact, digest, *settings).load())
    with pytest.raises(ArtifactError, match="was replaced meanwhile; run the command again"):
        Job(tiny_artifact, "0" * 64, *settings).load()


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every process is sent what Ctrl-C sends as soon as it exists."""

    def start(process: SpawnProcess) -> None:
        usual(process)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGINT)

    usual = SpawnProcess.start
    monkeypatch.setattr(SpawnProcess, "start", start)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, it would be so in children
    yield
    signal.signal(signal.SIGINT, before)


def say_hello(pipe: Connection) -> None:
    end_with_parent()
    pipe.send("hello")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
@pytest.mark.usefixtures("interrupted")
def test_ctrl_c_does_not_end_a_process_that_starts(capfd: pytest.CaptureFixture[str]) -> None:
    process = PipedProcess(say_hello)
    assert process.pipe.recv() == "hello"
    process.wait()
    assert process.exit_code == 0
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
@pytest.mark.usefixtures("interrupted")
def test_ctrl_c_does_not_end_workers_that_start(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """They live to say that there is no artifact."""
    job = Job(tmp_path, "0" * 64, ("full",), SearchOptions(), RuntimeOptions())
    clips = [Clip(name, None, name, tmp_path / name, "asr", ("heard",)) for name in "ab"]
    with pytest.raises(ArtifactError):
        list(answer_clips(job, clips, workers=2))
    with pytest.raises(ArtifactError):
        peak_memory(job, clips[0])
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_ctrl_c_that_comes_while_a_process_starts_is_not_lost() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), without_ctrl_c():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
