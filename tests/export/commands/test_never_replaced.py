"""No output takes the place of what its command reads, nor a place in a folder that is read whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fastadasp.export.cli import main
from fastadasp.export.commands.output import WRITTEN, check_output, check_profile_output
from fastadasp.export.commands.parameters import AnyPath
from fastadasp.export.folder import check_output as check_folder
from fastadasp.profiles.errors import OutputError
from fastadasp.runtime import SpeechLM

from .test_every_option import OPTIONS, place

PROFILE = 'method = "weighted_merge"\nratio = 0.3\n'
LIST, CLIP, LINK = "clips/clips.jsonl", "clips/one.flac", "link.toml"
IN_ARTIFACT = "art/manifest.json", "art/new.toml"
IN_CHECKPOINT = "model/config.json", "model/new.toml"
STUDY = f"model --lora adapter --manifest {LIST}"
TUNE = f"tune {STUDY} --max-loss 1"
CASES: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {
    ("run", "--map"): ("run art clip.wav", ("clip.wav", *IN_ARTIFACT)),
    ("bench", "--output"): ("bench art --clip clip.wav", ("clip.wav", *IN_ARTIFACT)),
    ("eval", "--output"): (f"eval art --manifest {LIST}", (LIST, CLIP, LINK, *IN_ARTIFACT)),
    ("compare", "--output"): (f"compare {STUDY}", (LIST, CLIP, LINK, "adapter/a.json", *IN_CHECKPOINT)),
    ("select-layer", "--output"): (f"select-layer {STUDY}", (LINK, "adapter/a.toml", "model/new.toml")),
    ("select-layer", "--json"): (f"select-layer {STUDY}", (LIST, CLIP, LINK, *IN_CHECKPOINT)),
    ("tune", "--output"): (TUNE, (LINK, "adapter/a.toml", "model/new.toml")),
    ("tune", "--json"): (f"{TUNE} -o own.toml", (LIST, CLIP, LINK, *IN_CHECKPOINT)),
    ("plan", "--output"): (
        "plan model --calibrate old.json --profile ./mine.toml,full,theirs --profiles-folder others",
        ("old.json", "mine.toml", "others/theirs.toml", *IN_CHECKPOINT),
    ),
    ("report", "--output"): ("report page.html old.json", ("page.html", "old.json")),
    ("transcribe", "--output"): (f"transcribe art {LIST}", (LIST, CLIP, LINK, *IN_ARTIFACT)),
    ("check", "--save"): ("check art --checkpoint model", ("art", "art/new", "model")),
    ("export-triton", "--output"): ("export-triton art --force", ("art", "art/graphs")),
    ("build", "--output"): (
        f"build model --profile ./mine.toml --quantize int4 --calibration {LIST} --force",
        ("model", "model/config.json", LIST, "mine.toml", "clips"),
    ),
    ("convert", "--output"): ("convert final.pt --tokenizer own.model", ("final.pt", "own.model")),
    ("plugins graphs", "--output"): ("plugins graphs model --profile ./mine.toml", ("model", "mine.toml")),
}
"""Command and the option of its output -> its words, and what the output must not be."""
READ_NOTHING = {("plugins build", "--output")}
READ = {
    *(
        "--accepted",
        "--api-key-file",
        "--audio-root",
        "--calibrate",
        "--calibration",
        "--checkpoint",
        "--clip",
    ),
    *("--config", "--golden", "--latency", "--lora", "--manifest", "--tokenizer"),
}
"""Options that name what is read."""


@pytest.fixture
def here(
    tiny_artifact: Path,
    tiny_checkpoint: Path,
    clip: Path,
    own_clips: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A folder with everything that a command may read; commands are run in it."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_artifact, "art")
    shutil.copytree(tiny_checkpoint, "model")
    shutil.copy(clip, "clip.wav")
    first = sorted(Path("clips").glob("*.flac"))[0]
    own_clips.write_text(own_clips.read_text("utf-8").replace(first.name, "one.flac"), "utf-8")
    first.rename(CLIP)
    for name in ("adapter/a.json", "adapter/a.toml", "old.json", "page.html", "final.pt", "own.model"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("{}", "utf-8")
    for name in ("mine.toml", "others/theirs.toml"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(PROFILE, "utf-8")
    Path(LINK).symlink_to(LIST)
    return tmp_path


def call(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def each_case() -> Iterator[object]:
    for (command, flag), (words, outputs) in CASES.items():
        for output in outputs:
            yield pytest.param(words, flag, output, id=f"{command} {flag} {output}")


def test_every_option_that_takes_a_path_is_tried_or_known_to_be_read() -> None:
    paths = {place(*pair) for pair in OPTIONS if isinstance(pair[1].type, AnyPath)}
    assert {pair for pair in paths if pair[1] not in READ} == CASES.keys() | READ_NOTHING


@pytest.mark.parametrize(("words", "flag", "output"), each_case())
def test_what_a_command_reads_is_never_replaced(
    here: Path, words: str, flag: str, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SpeechLM, "load", lambda *_, **__: pytest.fail("it was loaded"))
    before = content(here)
    result = call(*words.split(), flag, output)
    assert result.exit_code == 2, result.output
    assert result.stderr.splitlines()[-1].startswith(f"Error: output {output}"), result.stderr
    assert "; " in result.stderr, "there is a remedy"
    assert isinstance(result.exception, SystemExit)
    assert content(here) == before


@pytest.mark.parametrize("words", [f"eval art --manifest {LIST}", f"transcribe art {LIST}"])
def test_the_message_names_what_would_be_lost(here: Path, words: str) -> None:
    Path("link.jsonl").symlink_to(LIST)
    for output, lost in {
        LIST: f"output {LIST} would replace {LIST}, which is read; give another file",
        "link.jsonl": f"output link.jsonl would replace {LIST}, which is read; give another file",
        "art/manifest.json": "output art/manifest.json would replace a file of art, which is read whole; "
        "give a place outside of it",
        "art/a.json": "output art/a.json would add to art, which is read whole; give a place outside of it",
    }.items():
        assert call(*words.split(), "-o", output).stderr == f"Error: {lost}\n"


@pytest.mark.parametrize(
    ("words", "output"),
    [
        ("report old.json", "art/page.html"),
        (TUNE, "art/tuned.toml"),
        ("build model --profile full", "art/new/deep"),
        ("build model --profile full", "link/new"),
        ("check other --checkpoint model --save", "art/new"),
    ],
)
def test_nothing_is_written_into_an_artifact_that_is_not_read(here: Path, words: str, output: str) -> None:
    shutil.copytree("art", "other")
    Path("link").symlink_to("art")
    before = content(here)
    *given, last = words.split()
    result = call(*given, last, output) if last == "--save" else call(*given, last, "-o", output)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == (
        f"Error: output {output} is in the artifact {here / 'art'}; give a place outside of it"
    )
    assert content(here) == before


@pytest.mark.parametrize("words", [TUNE, f"select-layer {STUDY}"])
def test_a_profile_that_someone_wrote_is_not_replaced(here: Path, words: str) -> None:
    Path("own.toml").write_text(PROFILE, "utf-8")
    result = call(*words.split(), "-o", "own.toml")
    assert result.exit_code == 2
    assert "output own.toml is there, and no command wrote it; give another, or move it away" in result.stderr
    assert Path("own.toml").read_text("utf-8") == PROFILE


def test_a_profile_that_a_command_wrote_may_be_replaced(tmp_path: Path) -> None:
    for content in (f"{WRITTEN}tune\n{PROFILE}", ""):
        (tmp_path / "own.toml").write_text(content, "utf-8")
        check_profile_output(tmp_path / "own.toml", ())


@pytest.mark.parametrize("words", [f"eval art --manifest {LIST}", "report old.json", "plan model"])
def test_what_is_no_profile_does_not_end_as_one(here: Path, words: str) -> None:
    result = call(*words.split(), "-o", "new.toml")
    assert result.exit_code == 2
    assert "output new.toml: files that end with .toml are profiles; give, say, new.json" in result.stderr


@pytest.mark.parametrize("output", ["art", "art/new"])
def test_no_library_is_put_into_an_artifact(here: Path, output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastadasp.plugins.build.build_plugins", lambda *_: pytest.fail("it was built"))
    before = content(here)
    result = call("plugins", "build", "-o", output)
    assert result.exit_code == 2
    assert f"is in the artifact {here / 'art'}; give a place outside of it" in result.stderr
    assert content(here) == before


@pytest.mark.parametrize("text", ['{"name": "an app"}', "[]", "no JSON"])
def test_a_folder_with_a_manifest_of_others_may_be_written_into(here: Path, text: str) -> None:
    Path("app").mkdir()
    Path("app/manifest.json").write_text(text, "utf-8")
    check_output(Path("app/page.html"))
    check_folder(Path("app/ART"), force=False)


@pytest.mark.parametrize("output", ["heard/one.flac", "heard/one.txt"])
def test_transcripts_and_audio_of_a_folder_are_not_replaced(here: Path, output: str) -> None:
    Path("heard").mkdir()
    shutil.copy(CLIP, "heard")
    Path("heard/one.txt").write_text("may", "utf-8")
    before = content(here)
    result = call("eval", "art", "--manifest", "heard", "-o", output)
    assert f"output {output} would replace {output}, which is read" in result.stderr
    assert content(here) == before


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (f"eval art --manifest {LIST} --restart", "a.journal.jsonl"),
        (f"transcribe art {LIST} --restart", "a.failed.jsonl"),
        (f"transcribe art {LIST} --restart", "a.settings.json"),
        (f"compare {STUDY} --restart", "a.work/clips.jsonl"),
    ],
)
def test_what_is_kept_beside_an_output_replaces_nothing_that_is_read(
    here: Path, words: str, kept: str
) -> None:
    Path(kept).parent.mkdir(exist_ok=True)
    shutil.copy(LIST, kept)
    before = content(here)
    given = [kept if word == LIST else word for word in words.split()]
    result = call(*given, "--audio-root", "clips", "-o", "a")
    assert result.exit_code == 2
    assert "output a: what is kept beside it would replace" in result.stderr
    assert content(here) == before


@pytest.mark.parametrize("link", [os.link, os.symlink])
@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (f"eval art --manifest {LIST}", "a.journal.jsonl"),
        (f"transcribe art {LIST}", "a.failed.jsonl"),
        (f"eval art --manifest {LIST}", "a"),
    ],
)
def test_no_other_name_leads_into_a_folder_that_is_read_whole(
    here: Path, link: object, words: str, kept: str
) -> None:
    link(Path("art/manifest.json").resolve(), kept)  # type: ignore[operator]
    before = content(here)
    result = call(*words.split(), "--restart", "-o", "a")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: output a"), result.stderr
    assert "would replace" in result.stderr
    assert content(here) == before


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_another_name_of_a_file_is_that_file(tmp_path: Path, link: object) -> None:
    (tmp_path / "a.wav").write_bytes(b"sound")
    link(tmp_path / "a.wav", tmp_path / "b.wav")  # type: ignore[operator]
    with pytest.raises(OutputError, match=r"b\.wav would replace .*a\.wav"):
        check_output(tmp_path / "b.wav", [tmp_path / "a.wav"])


def test_a_link_to_a_folder_leads_into_it(tmp_path: Path) -> None:
    (tmp_path / "art").mkdir()
    (tmp_path / "link").symlink_to("art")
    with pytest.raises(OutputError, match=r"link/a\.json would add to .*art, which is read whole"):
        check_output(tmp_path / "link/a.json", [tmp_path / "art"])


def test_devices_and_files_beside_what_is_read_are_taken(tmp_path: Path) -> None:
    for name in ("a.wav", "old.json"):
        (tmp_path / name).write_bytes(b"x")
    reads = [tmp_path / "a.wav", tmp_path / "none.wav", None, Path("/dev/null")]
    for output in (tmp_path / "new.json", tmp_path / "old.json", Path("/dev/null"), None):
        check_output(output, reads, [lambda path: path.with_name("none")])


@pytest.mark.parametrize("command", [TUNE, f"select-layer {STUDY}"])
def test_two_outputs_are_two_files(here: Path, command: str) -> None:
    before = content(here)
    result = call(*command.split(), "-o", "a.toml", "--json", "clips/../a.toml")
    assert result.exit_code == 2
    assert "output a.toml is given twice; give -o and --json a file each" in result.stderr
    assert content(here) == before


@pytest.mark.parametrize(("command", "flag"), [*CASES, *READ_NOTHING])
def test_an_empty_path_is_refused_as_one(here: Path, command: str, flag: str) -> None:
    words, _ = CASES.get((command, flag), (command, ()))
    result = call(*words.split(), flag, "")
    assert result.exit_code == 2
    assert f"Invalid value for '{'-o' if flag == '--output' else flag}'" in result.stderr
    assert result.stderr.endswith("the path is empty; give one\n")


@pytest.mark.parametrize("command", [TUNE, f"select-layer {STUDY}"])
@pytest.mark.parametrize("name", ["my best", "_best", "a" * 101])
def test_a_name_that_no_profile_can_have_is_refused_by_the_option(
    here: Path, command: str, name: str
) -> None:
    result = call(*command.split(), "-o", f"{name}.toml")
    assert result.exit_code == 2
    assert result.stderr == (
        f"Error: output {name}.toml: -o names the profile, too, and {name!r} is no name of one; use letters, "
        "digits, dot, dash and underscore, at most 100, and begin with a letter or digit\n"
    )


@pytest.mark.parametrize("command", [TUNE, f"select-layer {STUDY}"])
@pytest.mark.parametrize("name", ["auto", "full"])
def test_a_name_that_no_build_takes_beside_full_is_refused_by_the_option(
    here: Path, command: str, name: str
) -> None:
    result = call(*command.split(), "-o", f"{name}.toml")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: output {name}.toml: -o names the profile, too, and {name} is ")


def test_the_audio_on_stdin_is_not_replaced(here: Path) -> None:
    import subprocess
    import sys

    words = [sys.executable, "-m", "fastadasp.export", "run", "art", "-", "--map", "clip.wav"]
    before = content(here)
    with Path("clip.wav").open("rb") as stream:
        ran = subprocess.run(words, stdin=stream, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert ran.stderr == "Error: output clip.wav would replace /dev/stdin, which is read; give another file\n"
    assert content(here) == before
