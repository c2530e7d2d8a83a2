"""Clips transcribed by actors of Ray get one line each, whatever is killed: `make ray-test`."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile

from conftest import noise
from fastadasp.runtime import SpeechLM

from .own_ray import NEEDS_RAY, WAIT, OwnRay, own_ray, wait_for

pytestmark = [NEEDS_RAY, pytest.mark.alone]
SOUNDS, CLIPS = 5, 500
PROMPT, TOKENS = "transcribe", 8


@pytest.fixture
def ray(tmp_path: Path) -> Iterator[OwnRay]:
    yield from own_ray(tmp_path / "ray.log")


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Many clips with a few sounds."""
    for i in range(SOUNDS):
        soundfile.write(tmp_path / f"{i}.wav", noise(0.5 + 0.25 * i), 16000)
    lines = [json.dumps({"id": f"clip-{i}", "audio": f"{i % SOUNDS}.wav"}) for i in range(CLIPS)]
    (tmp_path / "clips.jsonl").write_text("\n".join(lines))
    return tmp_path / "clips.jsonl"


@pytest.fixture
def expected(tiny_artifact: Path, clips: Path) -> dict[str, str]:
    with SpeechLM.load(tiny_artifact, threads=1) as model:
        texts = [
            model.generate(clips.with_name(f"{i}.wav"), PROMPT, max_new_tokens=TOKENS).text
            for i in range(SOUNDS)
        ]
    return {f"clip-{i}": texts[i % SOUNDS] for i in range(CLIPS)}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


@pytest.fixture
def start(ray: OwnRay, tiny_artifact: Path, clips: Path, output: Path) -> Any:
    def start() -> subprocess.Popen[bytes]:
        command = ["-m", "fastadasp.export", "transcribe", str(tiny_artifact), str(clips), "-o", str(output)]
        how = ["--engine", "ray", "--workers", "2", "--max-batch", "2", "--threads", "1"]
        return ray.start(*command, *how, "--prompt", PROMPT, "--max-new-tokens", str(TOKENS))

    return start


def lines(output: Path) -> list[dict[str, Any]]:
    text = output.read_text("utf-8") if output.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def finish(process: subprocess.Popen[bytes], ray: OwnRay) -> None:
    assert process.wait(WAIT) == 0, ray.log.read_text("utf-8", "replace")[-5000:]


def check(output: Path, expected: dict[str, str]) -> None:
    found = lines(output)
    assert len(found) == len(expected)
    assert {line["id"]: line["text"] for line in found} == expected


def test_an_actor_that_is_killed_loses_no_clip_and_doubles_none(
    ray: OwnRay, start: Any, output: Path, expected: dict[str, str]
) -> None:
    process = start()
    wait_for(lambda: len(lines(output)) > 5, ray.log)
    ray.processes("ray::Transcriber")[0].kill()
    assert len(lines(output)) < CLIPS
    finish(process, ray)
    check(output, expected)
    wait_for(lambda: not ray.processes(), ray.log)


def test_a_driver_that_is_killed_goes_on_where_it_was(
    ray: OwnRay, start: Any, output: Path, expected: dict[str, str]
) -> None:
    process = start()
    wait_for(lambda: len(lines(output)) > 5, ray.log)
    process.kill()
    process.wait()
    before = lines(output)
    assert len(before) < CLIPS
    wait_for(lambda: not ray.processes("ray::Transcriber"), ray.log)
    finish(start(), ray)
    check(output, expected)
    assert lines(output)[: len(before)] == before


def test_an_artifact_that_actors_cannot_load_ends_the_run(
    ray: OwnRay, clips: Path, tiny_artifact: Path, tmp_path: Path
) -> None:
    """As where it is not on the machine of an actor: here it goes once the driver has opened it."""
    shutil.copytree(tiny_artifact, tmp_path / "artifact")
    program = tmp_path / "driver.py"
    program.write_text(
        "import shutil, sys\n"
        "from pathlib import Path\n"
        "from fastadasp.evaluation import TranscribeOptions, read_requests, transcribe\n"
        "from fastadasp.serving.ray.bulk import RayEngine\n"
        "def engine(bulk, workers):\n"
        "    shutil.rmtree(bulk.job.artifact)\n"
        "    return RayEngine(bulk, workers)\n"
        "artifact, clips, output = map(Path, sys.argv[1:])\n"
        "transcribe(artifact, read_requests(clips), output, TranscribeOptions(workers=1), engine=engine)\n"
    )
    process = ray.start(str(program), str(tmp_path / "artifact"), str(clips), str(tmp_path / "none.jsonl"))
    assert process.wait(WAIT) == 1
    assert "fastadasp.profiles.errors.ArtifactError" in ray.log.read_text("utf-8", "replace").splitlines()[-1]
    assert not (tmp_path / "none.jsonl").exists()
