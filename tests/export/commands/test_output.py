"""`-o`: files in one step, links followed, devices and pipes written to and left as they are."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fastadasp.export.cli import main
from fastadasp.export.commands.output import check_output, write_text
from fastadasp.profiles.errors import OutputError
from fastadasp.runtime.tables import tables

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="devices and pipes of Linux")
BENCH = ("--audio-seconds", "1", "--beams", "1", "--runs", "1", "--warmup", "0", "--new-tokens", "2")


def bench(artifact: Path, output: Path) -> Result:
    words = ["bench", str(artifact), *BENCH, "--profile", "full", "-o", str(output)]
    return CliRunner().invoke(main, words, catch_exceptions=False)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """A null device of our own, so that a fault costs no machine its /dev/null."""
    path = tmp_path / "null"
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        path.write_bytes(b"")
    except PermissionError:
        pytest.skip("making a device needs privileges")
    return path


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def test_a_device_is_written_to_and_stays_one(tiny_artifact: Path, device: Path) -> None:
    assert bench(tiny_artifact, device).exit_code == 0
    assert stat.S_ISCHR(device.stat().st_mode)
    assert names(device.parent) == ["null"]


def test_a_full_device_is_a_fault_that_names_it() -> None:
    with pytest.raises(OutputError, match="output /dev/full: No space left on device"):
        write_text(Path("/dev/full"), "x")
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


def test_a_pipe_is_written_to(tiny_artifact: Path, pipe: Path) -> None:
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()), daemon=True)
    reader.start()
    assert bench(tiny_artifact, pipe).exit_code == 0
    reader.join(30)
    assert json.loads(found[0])["kind"] == "bench"
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_stays_and_its_file_is_written(tmp_path: Path, is_there: bool) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "link.json"
    link.symlink_to("disk/real.json")
    if is_there:
        (tmp_path / "disk/real.json").write_text("old")
    check_output(link)
    write_text(link, "new")
    assert link.is_symlink()
    assert (tmp_path / "disk/real.json").read_text() == "new"
    assert names(tmp_path / "disk") == ["real.json"]


def test_a_link_to_a_device_leads_there(tmp_path: Path, device: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(device)
    check_output(link)
    write_text(link, "x")
    assert stat.S_ISCHR(device.stat().st_mode)
    assert link.is_symlink()


def test_a_link_that_leads_in_a_circle_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(link)
    with pytest.raises(OutputError, match="link is no file; choose another"):
        check_output(link)
    assert link.is_symlink()


@pytest.mark.parametrize("mode", [0o600, 0o664])
def test_a_file_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    path.chmod(mode)
    write_text(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_text() == "new"


def test_a_new_file_has_the_mode_that_the_user_gives_files(tmp_path: Path) -> None:
    (tmp_path / "usual").write_text("")
    write_text(tmp_path / "ours", "x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("append", [False, True])
def test_dev_stdout_is_where_stdout_goes_even_if_that_is_a_file(tmp_path: Path, append: bool) -> None:
    program = (
        "from pathlib import Path; from fastadasp.export.commands.output import write_text\n"
        "print('before'); write_text(Path('/dev/stdout'), 'ours\\n'); print('after')"
    )
    with (tmp_path / "out").open("ab" if append else "wb") as stream:
        subprocess.run([sys.executable, "-c", program], stdout=stream, check=True)
    assert (tmp_path / "out").read_text() == "before\nours\nafter\n"
    assert names(tmp_path) == ["out"]


def test_a_result_stands_alone_on_stdout(tiny_artifact: Path) -> None:
    words = ("bench", str(tiny_artifact), *BENCH, "--profile", "full", "-o", "/dev/stdout")
    program = (sys.executable, "-m", "fastadasp.export", *words)
    found = subprocess.run(program, capture_output=True, check=True, text=True)
    assert json.loads(found.stdout)["kind"] == "bench"
    assert "prefill" in found.stderr


CLIPS = ("--manifest", "clips/clips.jsonl")
SEARCHED = ("--max-new-tokens", "2", "--threads", "1")
ASKED = (*CLIPS, "--resamples", "20", *SEARCHED)
JUDGED = (*CLIPS, "--resamples", "100", *SEARCHED)
ONE_ROW = ("--schedules", "constant", *ASKED)
WITH_TABLES = {
    "bench": (("bench", "art", *BENCH), ("-o", "a.json")),
    "bench under load": (
        ("bench", "art", *BENCH[:4], "--new-tokens", "2", "--concurrency", "1", "--requests", "2"),
        ("-o", "a.json"),
    ),
    "plan": (("plan", "model", "--device", "a100", "--profile", "full"), ("-o", "a.json")),
    "eval": (("eval", "art", *JUDGED, "--max-loss", "100"), ("-o", "a.json")),
    "compare": (("compare", "model", "--methods", "fastv", "--flops", "10", *ONE_ROW), ("-o", "a.json")),
    "select-layer": (
        ("select-layer", "model", "--flops", "10", "--accuracy", *ASKED),
        ("--json", "a.json", "-o", "a.toml"),
    ),
    "tune": (
        ("tune", "model", "--max-loss", "1e6", "--flops-levels", "10", "--start-layers", "0", *ONE_ROW),
        ("--json", "a.json", "-o", "a.toml"),
    ),
}
"""Words of the commands that show tables of what they write, and those of what is written."""


@pytest.fixture
def folder(
    tiny_artifact: Path, tiny_checkpoint: Path, own_clips: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Where they run."""
    # tune refuses a model whose answers are no good, as those of random weights are
    monkeypatch.setattr("fastadasp.export.studies.tune.rounds.fault_of", lambda _: "")
    folder = own_clips.parent.parent
    monkeypatch.chdir(folder)
    Path("art").symlink_to(tiny_artifact)
    Path("model").symlink_to(tiny_checkpoint)
    return folder


@pytest.mark.parametrize(("words", "outputs"), WITH_TABLES.values(), ids=WITH_TABLES)
def test_what_was_measured_is_written_though_nobody_reads_the_tables(
    words: tuple[str, ...], outputs: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []

    def nobody(*_: object) -> None:
        shown.append(names(folder))
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(tables, "show", nobody)
    ended = CliRunner().invoke(main, [*words, *outputs])
    assert ended.exit_code == 1, ended.output
    assert shown == [sorted([*outputs[1::2], "art", "clips", "model"])], ended.output


SHOWN = {
    "bench": ("1 s of audio, 1 beam", "prefill"),
    "bench under load": ("1 client", "req/s"),
    "plan": ("a100", "What the times rest on"),
    "eval": ("WER, lower is better", "FAIL: own-30: "),
    "compare": ("FastV", "10 %"),
    "select-layer": ("transfer entropy of one merge", "is selected"),
    "tune": ("Held out",),
}
"""Of their tables."""


@pytest.mark.parametrize("command", WITH_TABLES)
def test_what_cannot_be_written_is_shown_nevertheless(command: str, folder: Path) -> None:
    words, outputs = WITH_TABLES[command]
    full = ["/dev/full" if word == "a.json" else word for word in outputs]
    ended = CliRunner().invoke(main, [*words, *full])
    assert ended.exit_code == 2, ended.output
    assert "output /dev/full: No space left on device" in ended.stderr
    assert [words for words in SHOWN[command] if words not in ended.stdout] == [], ended.stdout


def test_no_journal_stands_beside_a_device(own_clips: Path, tiny_artifact: Path, device: Path) -> None:
    folder = device.parent
    before = names(folder)
    words = ["eval", tiny_artifact, "--manifest", own_clips, "--max-new-tokens", 2, "--resamples", 20]
    result = CliRunner().invoke(main, [*map(str, words), "-o", str(device)], catch_exceptions=False)
    assert "results in" in result.stderr, result.output
    assert stat.S_ISCHR(device.stat().st_mode)
    assert names(folder) == before


def test_what_a_killed_run_has_left_is_removed_with_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from fastadasp.export.commands.output import write_text\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_text(Path(sys.argv[1]), 'half')"
    )
    output = tmp_path / "a.json"
    output.write_text("old")
    subprocess.run([sys.executable, "-c", program, output], check=False)
    left = next(path for path in tmp_path.iterdir() if path != output)
    assert output.read_text() == "old"
    check_output(output)
    assert f"removed {left}, which a run that was killed has left" in capsys.readouterr().err
    assert names(tmp_path) == ["a.json"]


def test_a_limit_on_the_size_of_files_names_the_output(tmp_path: Path) -> None:
    shell = shutil.which("bash")
    assert shell is not None
    program = "from pathlib import Path; from fastadasp.export.commands.output import write_text\n"
    program += "write_text(Path('a.json'), 'x' * 100_000)"
    command = [shell, "-c", 'ulimit -f 1; "$0" -c "$1"', sys.executable, program]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "OutputError: output a.json: File too large" in ran.stderr
    assert names(tmp_path) == []
