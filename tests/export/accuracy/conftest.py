"""The demo as an artifact, its human clips as a manifest, and the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fastadasp.export.cli import main
from fastadasp.export.pipeline import BuildOptions, build
from fastadasp.profiles.profile import load_profile

DEMO = Path(__file__).parents[3] / "demo"
PROFILES = ("full", "dense-constant-50")


@pytest.fixture(scope="session")
def demo_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model under `PROFILES`, the first of which keeps every row."""
    output = tmp_path_factory.mktemp("demo") / "artifact"
    build(DEMO / "model", output, BuildOptions(tuple(map(load_profile, PROFILES))))
    return output


@pytest.fixture(scope="session")
def demo_manifest() -> Path:
    """The clips of the demo with what is said in them."""
    return DEMO / "clips" / "transcripts.jsonl"


@pytest.fixture
def own_clips(demo_manifest: Path, tmp_path: Path) -> Path:
    """A copy of three clips and their lines, which a test may change."""
    folder = tmp_path / "clips"
    folder.mkdir()
    lines = [line for line in demo_manifest.read_text("utf-8").splitlines() if '"asr"' in line][:3]
    for line in lines:
        shutil.copy(DEMO / "clips" / json.loads(line)["audio"], folder)
    (folder / "clips.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    return folder / "clips.jsonl"


def run_eval(artifact: Path, manifest: Path, *args: object) -> Result:
    """`eval` within this process, of asr unless it is told otherwise; whatever is no exit is raised."""
    command = ["eval", artifact, "--manifest", manifest, "--prompt", "<asr>", "--task", "asr", *args]
    result = CliRunner().invoke(main, [str(arg) for arg in command])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result
