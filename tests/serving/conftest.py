"""The demo under several profiles, a server of it for each module, and its clips."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from demo_files import CLIPS, DEMO
from fastadasp.runtime import SpeechLM
from server_process import ServerProcess, serving

PROFILES = ("full", "dense-constant-50", "sparse-30")
SPARSE = 'method = "weighted_merge"\nschedule = "constant"\nstart_layer = 4\nratio = 0.3\n'
CLIP = CLIPS.parent / "dates-01.flac"
SAID = "friday march six"


def build_demo(output: Path, **options: Any) -> Path:
    """The demo under `PROFILES`."""
    from fastadasp.export.options import BuildOptions
    from fastadasp.export.pipeline import build
    from fastadasp.profiles import load_profile, parse_profile

    own = parse_profile(SPARSE, "sparse-30", "tests")
    build(DEMO / "model", output, BuildOptions((*map(load_profile, PROFILES[:2]), own), **options))
    return output


@pytest.fixture(scope="session")
def demo_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo as it is."""
    return build_demo(tmp_path_factory.mktemp("serving") / "demo")


@pytest.fixture(scope="session")
def model(demo_artifact: Path) -> Iterator[SpeechLM]:
    """What the server answers with, in this process."""
    with SpeechLM.load(demo_artifact, threads=1) as model:
        yield model


@pytest.fixture(scope="module")
def server(demo_artifact: Path) -> Iterator[ServerProcess]:
    """Two workers."""
    with serving(demo_artifact, "--workers", 2) as server:
        yield server
        assert server.metric("worker_deaths_total") == 0
        assert "Traceback" not in server.log


@pytest.fixture(scope="session")
def clips() -> dict[str, bytes]:
    """The clips of the demo, by name."""
    return {path.stem: path.read_bytes() for path in sorted(CLIPS.parent.glob("*.flac"))}


@pytest.fixture(scope="session")
def long_clip(clips: dict[str, bytes]) -> bytes:
    """Three clips with pauses, over and over: 75 s, longer than a window, in a file of more than 1 MiB."""
    pause = np.zeros(16000, np.float32)
    parts = [
        part for name in ("dates-01", "digits-02", "numbers-03") for part in (_samples(clips[name]), pause)
    ]
    once = np.concatenate(parts)
    stream = io.BytesIO()
    soundfile.write(stream, np.tile(once, 1 + 75 * 16000 // len(once)), 16000, format="WAV", subtype="PCM_16")
    return stream.getvalue()


def _samples(content: bytes) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    samples, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    assert rate == 16000
    found: np.ndarray[tuple[int], np.dtype[np.float32]] = samples
    return found
