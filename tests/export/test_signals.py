"""A command that is told to end leaves nothing behind, and neither do the processes that work for it."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fastadasp.export.cli import main
from fastadasp.runtime import SpeechLM
from processes import is_alive

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals of Unix, and how Linux ends a child")

STOPPED = ("--max-new-tokens", "1", "--resamples", "10", "--prompt", "hello")
OF_COMMAND = {
    "eval": (),
    "compare": ("--methods", "weighted_merge", "--schedules", "constant", "--flops", "20"),
    "tune": ("--max-loss", "100", "--schedules", "constant", "--start-layers", "0", "--flops-levels", "10"),
}
SLOW_BUILD = """
import sys, time
from fastadasp.export import pipeline
from fastadasp.export.cli import main
def slow(*_):
    print("half", flush=True)
    time.sleep(60)
pipeline.manifest_of = slow
main(sys.argv[1:])
"""
INTERRUPTED_IMPORT = """
import signal, sys
class Finder:
    def find_spec(name, *_):
        if name == "fastadasp.export.commands.bench":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Finder)
from fastadasp.export.__main__ import main
main()
"""
STARTS_A_WORKER = """
import subprocess, sys, time
from fastadasp.export.engines.engine import WORKER
from fastadasp.plugins.end_with_parent import own_id
worker = subprocess.Popen([sys.executable, "-P", "-m", WORKER, own_id()])
print(worker.pid, flush=True)
time.sleep(60)
"""


def slow_build(checkpoint: Path, output: Path, before: Callable[[], object]) -> subprocess.Popen[str]:
    """A build that waits where its folder is half full."""
    command = [sys.executable, "-c", SLOW_BUILD, "build", checkpoint, "-o", output, "--profile", "full"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, **pipes, text=True, preexec_fn=before)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    assert any(output.parent.iterdir()), "it has begun to write"
    return process


@pytest.mark.parametrize(
    ("command", "number", "code"),
    [("eval", None, 130), ("compare", signal.SIGTERM, 143), ("tune", None, 130)],
)
def test_a_run_that_is_stopped_says_what_is_kept(
    tiny_artifact: Path,
    tiny_checkpoint: Path,
    own_clips: Path,
    tmp_path: Path,
    command: str,
    number: signal.Signals | None,
    code: int,
) -> None:
    """SIGINT, which may be ignored where tests run, as the exception that Python makes of it."""
    own_clips.write_text(own_clips.read_text("utf-8").replace('"<asr>"', '"hello"'), "utf-8")
    output = tmp_path / ("out.toml" if command == "tune" else "out.json")
    encode, encoded = SpeechLM.encode, itertools.count()
    source = tiny_artifact if command == "eval" else tiny_checkpoint
    words = [command, source, "--manifest", own_clips, "-o", output, *STOPPED, *OF_COMMAND[command]]

    def stopped(*args: Any, **options: Any) -> Any:
        if next(encoded) == 1:
            if number is None:
                raise KeyboardInterrupt
            signal.raise_signal(number)
        return encode(*args, **options)

    for restart, how in ((), ""), (("--restart",), " without --restart"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SpeechLM, "encode", stopped)
            encoded = itertools.count()
            result = CliRunner().invoke(main, [*map(str, words), *restart])
        assert result.exit_code == code, result.output
        (kept,) = tmp_path.glob(f"{output.name}.*")
        told = f"stopped; {kept} is kept, from which the same command{how} goes on"
        assert told in result.stderr.splitlines()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_build_that_is_told_to_end_removes_its_folder(
    tiny_checkpoint: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    usual = lambda: signal.signal(number, signal.SIG_DFL)  # noqa: E731
    with slow_build(tiny_checkpoint, tmp_path / "art", usual) as process:
        process.send_signal(number)
        assert process.wait(30) == code
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_the_program_is_imported_says_nothing() -> None:
    usual = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    command = [sys.executable, "-c", INTERRUPTED_IMPORT, "--help"]
    ended = subprocess.run(command, capture_output=True, preexec_fn=usual, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, b"", b"")


def test_a_signal_that_is_ignored_stays_so(tiny_checkpoint: Path, tmp_path: Path) -> None:
    ignored = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731
    with slow_build(tiny_checkpoint, tmp_path / "art", ignored) as process:
        process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        assert process.poll() is None
        process.terminate()
        assert process.wait(30) == 143
    assert list(tmp_path.iterdir()) == []


def test_a_worker_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """Its stdin stays open here, so that its end is not told to it."""
    command = [sys.executable, "-c", STARTS_A_WORKER]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        time.sleep(3)  # until it waits for its request
        assert is_alive(worker)
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 30
        while is_alive(worker):
            assert time.monotonic() < deadline, "it has outlived its parent"
            time.sleep(0.05)


def test_a_worker_whose_parent_has_ended_before_it_began_does_nothing() -> None:
    program = "from fastadasp.plugins.end_with_parent import end_with_parent; end_with_parent(2**22 + 1)"
    assert subprocess.run([sys.executable, "-c", f"{program}; print('on')"], check=False).returncode == 1
