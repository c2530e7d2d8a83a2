"""The acceptance on a GPU: what passes a stage, and what a machine without one is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from acceptance import child, needs
from acceptance.checkout import ROOT
from acceptance.records import FAILED, HOST, NO_TIME, NOT_HERE, PASSED, Check, Skipped, judged
from acceptance.stages import STAGES, Context

GPU, OTHER = "aa" * 16, "bb" * 16
SCRIPT = ROOT / "bench/accept_gpu.py"
NO_DEVICE = pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="a GPU is here: run `make accept-gpu`")


def check(ran_on, passed=True):
    return Check("sum", passed, ran_on, fault=None if passed else "error 1")


@pytest.mark.parametrize(
    ("checks", "device", "status", "why"),
    [
        ([check(GPU)], GPU, PASSED, None),
        ([check(GPU), check(HOST)], GPU, PASSED, None),
        ([check(HOST)], GPU, FAILED, "nothing ran on the device"),
        ([], GPU, FAILED, "nothing ran on the device"),
        ([check(GPU), check(OTHER)], GPU, FAILED, f"sum ran on {OTHER}, not on the device {GPU}"),
        ([check(GPU)], None, FAILED, f"sum ran on {GPU}, not on the device (there is none)"),
        ([check(None)], GPU, FAILED, f"sum ran on nothing that can be shown, not on the device {GPU}"),
        ([check(GPU), check(GPU, passed=False)], GPU, FAILED, "1 of 2 checks; the first is sum: error 1"),
    ],
)
def test_only_checks_that_ran_on_the_device_pass_a_stage(checks, device, status, why):
    result = judged("kernels", 1.0, checks, [], device)
    assert (result.status, result.why) == (status, why)


def test_a_stage_that_stopped_has_not_passed_and_hides_no_fault():
    stopped = NO_TIME, "the budget was spent"
    assert judged("kernels", 1.0, [check(GPU)], [], GPU, stopped).status == NO_TIME
    assert judged("kernels", 1.0, [check(GPU, passed=False)], [], GPU, stopped).status == FAILED
    assert judged("kernels", 1.0, [check(GPU)], [], GPU, (FAILED, "killed")).why == "killed"
    assert judged("kernels", 1.0, [], [Skipped("7B", 80)], GPU).why == "7B takes about 80 s"


def accept(folder, *words, **environment):
    """Run the script; what it says, and its result file."""
    command = [sys.executable, str(SCRIPT), "-o", "result.json", *words]
    ran = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=folder, env=os.environ | environment
    )
    return ran, json.loads((folder / "result.json").read_text()) if (
        folder / "result.json"
    ).is_file() else None


OF_DEVICE = [name for name, stage in STAGES.items() if not stage.works_without_device]


@NO_DEVICE
def test_without_a_gpu_nothing_fails_and_nothing_passes(tmp_path):
    ran, result = accept(tmp_path, "--stages", *OF_DEVICE)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == f"nothing failed; {len(OF_DEVICE)} stages not here"
    assert [stage["status"] for stage in result["stages"]] == [NOT_HERE] * len(OF_DEVICE)
    assert all("libcuda.so.1" in stage["why"] for stage in result["stages"])
    assert result["device"] is None
    assert result["packages"]["numpy"] == np.__version__
    assert {path.name for path in tmp_path.iterdir()} == {"result.json"}


@NO_DEVICE
def test_strict_tells_by_its_exit_code_that_stages_were_left_out(tmp_path):
    assert accept(tmp_path, "--stages", "kernels", "--strict")[0].returncode == 3


@NO_DEVICE
def test_a_driver_that_only_says_that_there_is_a_gpu_passes_nothing(fake_driver, tmp_path):
    """Torch, ONNX Runtime and TensorRT do not run on it."""
    stages = [name for name in OF_DEVICE if name != "tensorrt"]
    ran, result = accept(tmp_path, "--stages", *stages, LD_LIBRARY_PATH=str(fake_driver))
    assert result["device"]["name"] == "Fake H100", ran.stderr
    assert not [stage for stage in result["stages"] if stage["status"] == PASSED]
    (of_kernels,) = (stage for stage in result["stages"] if stage["stage"] == "kernels")
    assert of_kernels["why"].endswith("finds no GPU")


def test_what_does_not_fit_the_budget_is_named(fake_driver, tmp_path):
    words = "--stages", "kernels", "plugins", "--budget-seconds", "20"
    ran, result = accept(tmp_path, *words, LD_LIBRARY_PATH=str(fake_driver))
    assert [stage["status"] for stage in result["stages"]] == [NO_TIME, NO_TIME]
    assert ran.stdout.splitlines()[-1] == "nothing failed; 2 stages no time left"


def test_the_script_needs_no_installed_package(tmp_path):
    """Isolated, Python sees neither this environment nor the caller's path."""
    program = (
        f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r})\n"
        "from pathlib import Path\nfrom importlib.metadata import version\n"
        "from acceptance.checkout import provide_packages\n"
        f"provide_packages(Path({str(tmp_path)!r}))\n"
        "import fastadasp.profiles as found\nprint(version('fastadasp-export'), found.__file__)"
    )
    command = [sys.executable, "-I", "-S", "-c", program]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["0.1.0", str(tmp_path / "fastadasp/profiles/__init__.py")]


def context(folder, **changes):
    return replace(Context(folder, folder / "kept", None, None, None), **changes)


def run_script(folder, monkeypatch, program, hear=lambda _: None, **changes):
    """A stage whose process runs this program, in which `tell` writes a line."""
    script = folder / "stage.py"
    script.write_text(TELL + program)
    monkeypatch.setattr(child, "SCRIPT", script)
    monkeypatch.setitem(child.STAGES, "plugins", replace(STAGES["plugins"], least_seconds=0))
    heard = []

    def listen(finding):
        heard.append(finding)
        hear(finding)

    return child.run_stage("plugins", context(folder, **changes), None, listen), heard


TELL = """
import json, os, sys
def tell(**line):
    os.write(int(sys.argv[3]), (json.dumps(line) + "\\n").encode())
"""
ONE_CHECK = f"tell(check=dict(name='sum', passed=True, ran_on={GPU!r}))\n"


def test_a_stage_whose_process_dies_has_failed_with_its_last_words(tmp_path, monkeypatch):
    program = ONE_CHECK + "print('no kernel image', flush=True); os.abort()"
    result, heard = run_script(tmp_path, monkeypatch, program, device=GPU)
    assert (result.status, result.why) == (FAILED, "its process ended with -6: no kernel image")
    assert [each.name for each in heard] == ["sum"]


def test_a_stage_that_tells_that_it_is_done_is_judged_by_its_checks(tmp_path, monkeypatch):
    result, _ = run_script(tmp_path, monkeypatch, ONE_CHECK + "tell(done=None)", device=GPU)
    assert result.status == PASSED
    result, _ = run_script(tmp_path, monkeypatch, ONE_CHECK + "tell(done=None)", device=OTHER)
    assert result.status == FAILED


def test_a_stage_is_stopped_when_the_budget_is_spent_and_keeps_its_checks(tmp_path, monkeypatch):
    program = ONE_CHECK + "import time; time.sleep(600)"
    for seconds in (2, 8, 32, 128):  # in which Python starts and tells
        late = time.monotonic() + seconds
        result, _ = run_script(tmp_path, monkeypatch, program, device=GPU, deadline=late)
        if result.checks:
            break
    assert result.status == NO_TIME
    assert [each.name for each in result.checks] == ["sum"]


def runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("reason", [KeyboardInterrupt, OSError])
def test_the_process_of_a_stage_ends_with_whoever_started_it(tmp_path, monkeypatch, reason):
    """A finding cannot be written, or Ctrl-C; what the process has started ends too."""
    started = "import subprocess, time; kept = subprocess.Popen(['sleep', '600'])\n"
    tells = f"tell(check=dict(name=f'{{os.getpid()}} {{kept.pid}}', passed=True, ran_on={GPU!r}))\n"
    pids = []

    def hear(finding):
        pids.extend(map(int, finding.name.split()))
        raise reason

    with pytest.raises(reason):
        run_script(tmp_path, monkeypatch, f"{started}{tells}time.sleep(600)", hear)
    assert len(pids) == 2
    late = time.monotonic() + 30
    while any(map(runs, pids)) or any(isinstance(each, threading.Timer) for each in threading.enumerate()):
        assert time.monotonic() < late
        time.sleep(0.01)


def test_the_context_of_a_stage_reaches_its_process(tmp_path):
    given = context(tmp_path, device=GPU, sm=90, checkpoint=tmp_path)
    assert child._context_of(child._text_of(given)) == given


def test_needs_names_every_package_and_the_wheels_to_bring():
    text = "\n".join(needs.lines())
    assert all(name in text for name in STAGES)
    wheels = text.partition("-d wheels")[2]
    for name in (
        "onnxruntime-gpu>=",
        "tensorrt-rtx-cu13-libs==1.7.1.116",
        "blake3",
        "kernel-lens",
        "soxr",
    ):
        assert f"'{name}" in wheels
    assert "'torch" not in wheels
