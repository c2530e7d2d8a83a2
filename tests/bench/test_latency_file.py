"""The file of bench that the latency stage leaves calibrates a plan of the settings that lie beside it."""

from __future__ import annotations

import json
import shutil

import pytest
from acceptance import latency
from acceptance.models import Model
from acceptance.records import Check
from acceptance.stages import Context
from click.testing import CliRunner

from demo_files import DEMO
from fastadasp.export.cli import main

NAME = "onnxruntime-demo"


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """What the stage leaves of the demo, run by the graphs for CPUs, as no GPU is here."""
    folder = tmp_path_factory.mktemp("accept")
    model = Model("Demo", lambda path: shutil.copytree(DEMO / "model", path), 1, 1)
    context = Context(folder, folder / "kept", None, None, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "CASES", ((6.0, 1), (3.0, 5)))
        patch.setattr(latency, "NEW_TOKENS", 8)
        findings = list(latency.latency(context, "onnxruntime", models=(model,)))
    assert all(each.passed for each in findings if isinstance(each, Check))
    return folder / "kept"


def plan(left, *options):
    command = ["plan", left / f"settings-{NAME}", "--calibrate", left / f"bench-{NAME}.json", *options]
    result = CliRunner().invoke(main, list(map(str, command)), env={"COLUMNS": "120"})
    return result, " ".join(result.output.split())


def test_the_file_calibrates_the_device_that_it_is_of(left):
    profiles = ",".join(latency.PROFILES)
    result, said = plan(left, "--device", "cpu", "--audio-seconds", "3,6", "--profile", profiles)
    assert result.exit_code == 0, said
    assert f"fitted to {left.name}/bench-{NAME}.json" in said or f"fitted to bench-{NAME}.json" in said
    for case in ("1 beam, 6 s, sparse-50", "5 beams, 3 s, full"):
        assert case in said
    assert "after it: mean error" in said


def test_a_file_of_a_gpu_is_one_of_the_device_that_is_planned(left, tmp_path):
    content = json.loads((left / f"bench-{NAME}.json").read_text("utf-8"))
    content["artifact"] |= {"device": "cuda:0", "precision": "bf16"}  # as the CUDA backend tells them
    on_gpu = shutil.copytree(left, tmp_path / "gpu")
    (on_gpu / f"bench-{NAME}.json").write_text(json.dumps(content), "utf-8")
    assert plan(on_gpu, "--device", "h100")[0].exit_code == 0
    result, said = plan(on_gpu, "--device", "cpu")
    assert result.exit_code == 2
    assert "was measured on cuda:0: plan for the one GPU that it is" in said
