"""An output folder: what it may replace, that it appears in one step, and what becomes of leftovers."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fastadasp.export import swap
from fastadasp.export.cli import main
from fastadasp.export.folder import check_output, temporary_folder
from fastadasp.profiles.errors import OutputError
from fastadasp.runtime.artifact.manifest import digest_of

HOLD = """
import sys, time
from pathlib import Path
from fastadasp.export.folder import temporary_folder
with temporary_folder(Path(sys.argv[1]), force=True) as folder:
    (folder / "part").write_text("half")
    print(folder, flush=True)
    time.sleep(60)
"""


def artifact(folder: Path, text: str = "old", version: int = 4) -> Path:
    """The least that counts as an artifact of ours."""
    (folder / "weights").mkdir(parents=True)
    (folder / "weights/a").write_text(text)
    manifest = {
        "format_version": version,
        "family": "qwen",
        "files": {"weights/a": {"size": 3, "sha256": "x"}},
    }
    (folder / "manifest.json").write_text(json.dumps({**manifest, "digest": digest_of(manifest)}))
    return folder


def fill(output: Path, text: str = "new", *, force: bool = True) -> None:
    with temporary_folder(output, force) as folder:
        shutil.copytree(artifact(folder / "made", text), folder, dirs_exist_ok=True)
        shutil.rmtree(folder / "made")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def content(output: Path) -> str:
    return (output / "weights/a").read_text()


@pytest.fixture(params=["one step", "two renames"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A system with an exchange of names, and one without."""
    if request.param == "two renames":
        monkeypatch.setattr(swap, "rename_with", lambda *_: False)
    return str(request.param)


def build(*args: object) -> Result:
    return CliRunner().invoke(main, ["build", *map(str, args), "--profile", "full"])


# What may be replaced


@pytest.mark.parametrize("foreign", ["notes.txt", "weights/mine.bin", "empty/", "link"])
def test_force_refuses_an_artifact_that_holds_something_else(
    tiny_checkpoint: Path, tiny_artifact: Path, tmp_path: Path, foreign: str
) -> None:
    output = Path(shutil.copytree(tiny_artifact, tmp_path / "art"))
    path = output / foreign
    if foreign == "link":
        path.symlink_to(tmp_path)
    elif foreign.endswith("/"):
        path.mkdir()
    else:
        path.write_text("mine")
    result = build(tiny_checkpoint, "-o", output, "--force")
    assert result.exit_code == 2
    assert f"output {output} holds what is no part of the artifact: {foreign}; move it" in result.stderr
    assert os.path.lexists(path)


@pytest.mark.parametrize(
    "manifest",
    [
        '{"name": "a web page"}',
        '{"format_version": 4, "family": "x", "files": ["a"]}',
    ],
    ids=["another", "no table"],
)
def test_force_refuses_a_folder_with_a_manifest_of_something_else(tmp_path: Path, manifest: str) -> None:
    output = artifact(tmp_path / "art")
    (output / "manifest.json").write_text(manifest)
    with pytest.raises(OutputError, match="is not an artifact; --force replaces artifacts only"):
        check_output(output, force=True)
    assert content(output) == "old"


@pytest.mark.parametrize("foreign", [True, False])
def test_force_is_offered_only_where_it_replaces(tmp_path: Path, foreign: bool) -> None:
    output = artifact(tmp_path / "art")
    if foreign:
        (output / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists; give another folder") as caught:
        check_output(output, force=False)
    assert ("--force" in str(caught.value)) is not foreign


@pytest.mark.parametrize("manifest", ["[]", "{", "[" * 99999], ids=["a list", "torn", "deep"])
def test_force_says_of_a_damaged_manifest_that_it_is_one(tmp_path: Path, manifest: str) -> None:
    output = artifact(tmp_path / "art")
    (output / "manifest.json").write_text(manifest)
    with pytest.raises(OutputError, match=r"manifest\.json cannot be read .* move it elsewhere"):
        check_output(output, force=True)
    assert content(output) == "old"


def test_a_file_that_was_written_into_the_manifest_by_hand_is_not_removed(tmp_path: Path) -> None:
    output = artifact(tmp_path / "art")
    (output / "mine").write_text("mine")
    manifest = json.loads((output / "manifest.json").read_text())
    manifest["files"]["mine"] = {"size": 4, "sha256": "x"}
    (output / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(OutputError, match=r"manifest\.json was changed: its content does not match its dig"):
        fill(output)
    assert (output / "mine").read_text() == "mine"


@pytest.mark.parametrize("version", [1, 3, 4, 5])
def test_force_replaces_artifacts_of_every_format(tmp_path: Path, version: int, system: str) -> None:
    output = artifact(tmp_path / "art", version=version)
    fill(output)
    assert content(output) == "new"
    assert names(tmp_path) == ["art"]


def test_what_comes_into_the_output_during_a_build_is_kept(tmp_path: Path, system: str) -> None:
    output = artifact(tmp_path / "art")
    with (
        pytest.raises(OutputError, match="no part of the artifact: late"),
        temporary_folder(output, force=True),
    ):
        (output / "late").write_text("mine")
    assert content(output) == "old"
    assert names(tmp_path) == ["art"]


def test_a_read_only_artifact_is_replaced(tmp_path: Path, system: str) -> None:
    output = artifact(tmp_path / "art")
    (output / "weights").chmod(0o555)
    output.chmod(0o555)
    fill(output)
    assert content(output) == "new"
    assert names(tmp_path) == ["art"]


# In one step


def test_the_output_is_whole_at_every_moment(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("the exchange of names is one of Linux")
    output = artifact(tmp_path / "art")
    seen, done = set(), threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.add(content(output) if output.exists() else "missing")

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(200):
        fill(output)
    done.set()
    watcher.join()
    assert seen <= {"old", "new"}


def fail_renames(
    monkeypatch: pytest.MonkeyPatch, is_one: Callable[[Path], bool], code: int, text: str
) -> None:
    """Let the system refuse to rename some paths."""
    rename = Path.rename

    def failing(path: Path, target: Path) -> Path:
        if is_one(path):
            raise OSError(code, text, str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)


def test_a_failed_second_rename_puts_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = artifact(tmp_path / "art")
    monkeypatch.setattr(swap, "rename_with", lambda *_: False)
    fail_renames(monkeypatch, lambda path: "-new-" in path.name, errno.EIO, "broken")
    with pytest.raises(OSError, match="broken"):
        fill(output)
    assert content(output) == "old"
    assert names(tmp_path) == ["art"]


def test_an_artifact_that_cannot_be_moved_is_replaced_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a layer of an image below."""
    output = artifact(tmp_path / "art")
    monkeypatch.setattr(swap, "rename_with", lambda *_: False)
    fail_renames(monkeypatch, lambda path: path.name == "art", errno.EXDEV, os.strerror(errno.EXDEV))
    fill(output)
    assert content(output) == "new"
    assert names(tmp_path) == ["art"]


def test_the_loser_of_two_builds_reads_what_happened(tmp_path: Path, system: str) -> None:
    output = tmp_path / "art"
    message = "art exists by now: another build was faster; give another folder"
    with pytest.raises(OutputError, match=message), temporary_folder(output, force=False):
        artifact(output, "theirs")
    assert content(output) == "theirs"
    assert names(tmp_path) == ["art"]


def test_a_link_is_followed(tiny_checkpoint: Path, tiny_artifact: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(tiny_artifact, tmp_path / "disk/art"))
    link = tmp_path / "link"
    link.symlink_to("disk/art")
    result = build(tiny_checkpoint, "-o", link, "--force")
    assert result.exit_code == 0, result.stderr
    assert link.is_symlink()
    assert not (place / "prefill.own-30.onnx").exists()
    assert names(tmp_path / "disk") == ["art"]


@pytest.mark.parametrize(
    ("code", "message"), [(errno.EFBIG, r"ulimit -f"), (errno.EIO, "Input/output error; choose a folder")]
)
def test_an_error_that_names_no_file_names_the_output(tmp_path: Path, code: int, message: str) -> None:
    expected = pytest.raises(OutputError, match=rf"output .*art: .*{message}")
    with expected, temporary_folder(tmp_path / "art", force=False):
        raise OSError(code, os.strerror(code))
    assert names(tmp_path) == []


# What a kill leaves


def killed(output: Path) -> Path:
    """The folder that a killed build leaves."""
    with holding(output) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().decode().strip())
        process.kill()
    assert (folder / "part").is_file()
    return folder


def holding(output: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", HOLD, str(output)], stdout=subprocess.PIPE)


@pytest.mark.parametrize("name", ["art", "ä" * 110], ids=["short", "long"])
def test_the_next_build_removes_what_a_killed_one_has_left_and_says_so(
    tiny_checkpoint: Path, tmp_path: Path, name: str
) -> None:
    left = killed(tmp_path / name)
    result = build(tiny_checkpoint, "-o", tmp_path / name)
    assert result.exit_code == 0, result.stderr
    assert f"removed {left}, which a run that was killed has left" in result.stderr
    assert names(tmp_path) == [name]


def test_what_a_live_build_works_in_is_left_alone(tmp_path: Path) -> None:
    with holding(tmp_path / "art") as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().decode().strip())
        fill(tmp_path / "art")
        lines: list[str] = []
        check_output(tmp_path / "art", True, lines.append)
        assert not lines
        assert (folder / "part").is_file()
        process.kill()


def test_folders_of_other_names_are_left_alone(tmp_path: Path) -> None:
    for name in (".art.fastadasp-new-short", ".art2.fastadasp-new-abcdefgh", ".art.backup", "art.new"):
        (tmp_path / name).mkdir()
    before = names(tmp_path)
    check_output(tmp_path / "art", force=False)
    assert names(tmp_path) == before


def test_an_artifact_that_was_moved_aside_by_a_killed_build_comes_back(tmp_path: Path) -> None:
    artifact(tmp_path / ".art.fastadasp-old-abcd_123")
    artifact(tmp_path / ".art.fastadasp-new-abcd_124", "half")
    lines: list[str] = []
    check_output(tmp_path / "art", True, lines.append)
    assert content(tmp_path / "art") == "old"
    assert names(tmp_path) == ["art"]
    assert "was put back" in lines[0]
    assert "removed" in lines[1]
