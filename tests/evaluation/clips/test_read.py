"""Manifests and folders of transcripts: what is read from them, and every fault told at once."""

import json
import pickle
import shutil

import pytest

from fastadasp.evaluation.clips.read import read_clips
from fastadasp.profiles.errors import ClipsError

WRITE = "write the keys of a clip as one JSON object, in UTF-8"


@pytest.fixture
def folder(tmp_path):
    for name in ("a.wav", "b.wav", "deep/c.flac"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "data"


def manifest(folder, *lines):
    path = folder / "clips.jsonl"
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text("\n".join(texts) + "\n", "utf-8")
    return path


def asr(audio="a.wav", text="hello", **more):
    return {"audio": audio, "text": text, "task": "asr", **more}


def faults(source, task=None, **options):
    with pytest.raises(ClipsError) as caught:
        read_clips(source, task, **options)
    return caught.value


# What is read


def test_a_line_gives_a_clip_with_all_that_it_says(folder):
    line = asr("deep/c.flac", id="c", language="en", prompt="<p>")
    (clip,) = read_clips(manifest(folder, line)).clips
    assert (clip.id, clip.line, clip.audio, clip.task) == ("c", 1, "deep/c.flac", "asr")
    assert (clip.path, clip.references) == (folder / "deep/c.flac", ("hello",))
    assert (clip.language, clip.prompt) == ("en", "<p>")


def test_the_prompt_of_the_call_serves_lines_without_one(folder):
    clips = read_clips(manifest(folder, asr(), asr("b.wav", prompt="own")), prompt="shared").clips
    assert [clip.prompt for clip in clips] == ["shared", "own"]


def test_the_id_is_the_audio_unless_tasks_share_it(folder):
    lines = (
        asr(),
        {"audio": "a.wav", "text": ["x", "y"], "task": "caption"},
        asr("b.wav"),
        {"audio": "a.wav", "text": "x", "task": "qa", "id": "question"},
    )
    source = manifest(folder, *lines)
    assert [clip.id for clip in read_clips(source, "asr").clips] == ["a.wav#asr", "b.wav"]
    assert [clip.id for clip in read_clips(source, "caption").clips] == ["a.wav#caption"]
    assert [clip.id for clip in read_clips(source, "qa").clips] == ["question"]


def test_clips_of_equal_files_are_of_one_recording_whatever_they_are_called(folder):
    (folder / "link.wav").symlink_to("b.wav")
    (folder / "copy.wav").write_bytes((folder / "b.wav").read_bytes())
    names = "b.wav", "a.wav", "deep/../b.wav", "link.wav", "copy.wav"
    clips = read_clips(manifest(folder, *(asr(audio, id=str(i)) for i, audio in enumerate(names))))
    b, a, *others = clips.recordings
    assert a != b
    assert others == [b, b, b]


def test_files_that_cannot_be_read_are_of_recordings_of_their_own(folder):
    clips = read_clips(manifest(folder, asr(), asr("b.wav")))
    for clip in clips.clips:
        clip.path.unlink()
    assert len({*clips.recordings}) == 2


def test_references_are_texts_or_the_label(folder):
    lines = (
        {"audio": "a.wav", "label": "happy", "task": "classify"},
        {"audio": "a.wav", "label": "sad", "text": "said words", "task": "classify", "id": "2"},
        {"audio": "b.wav", "text": ["x", "y"], "task": "qa"},
        {"audio": "b.wav", "text": "z", "task": "caption"},
    )
    source = manifest(folder, *lines)
    assert [clip.references for clip in read_clips(source, "classify").clips] == [("happy",), ("sad",)]
    assert read_clips(source, "qa").clips[0].references == ("x", "y")
    assert read_clips(source, "caption").clips[0].references == ("z",)


def test_a_task_of_the_call_serves_lines_without_one(folder):
    line = {"audio": "a.wav", "text": "hello"}
    assert read_clips(manifest(folder, line), "translate").task == "translate"


def test_audio_may_lie_in_another_folder(folder, tmp_path):
    source = manifest(tmp_path, asr())
    assert read_clips(source, audio_root=folder).clips[0].path == folder / "a.wav"


def test_blank_lines_a_byte_order_mark_and_line_separators_within_texts_are_no_fault(folder):
    source = manifest(folder, "\ufeff" + json.dumps(asr()), "", "  ", asr("b.wav", "one\u2028two"))
    source.write_text(source.read_text("utf-8").replace("\\u2028", "\u2028"), "utf-8")
    assert [(clip.line, clip.references) for clip in read_clips(source).clips] == [
        (1, ("hello",)),
        (4, ("one\u2028two",)),
    ]


def test_a_folder_of_transcripts_is_asr(folder):
    for name in ("a.txt", "b.txt", "deep/c.txt"):
        (folder / name).write_text(f" said in {name}\n", "utf-8")
    found = read_clips(folder, prompt="<p>")
    assert found.task == "asr"
    assert [(clip.id, clip.line) for clip in found.clips] == [
        ("a.wav", None),
        ("b.wav", None),
        ("deep/c.flac", None),
    ]
    assert found.clips[2].references == ("said in deep/c.txt",)
    assert found.clips[2].prompt == "<p>"


def test_a_folder_of_transcripts_has_no_audio_in_another_folder(folder, tmp_path):
    message = f"audio_root {tmp_path} is for a clip list; {folder} is none, so leave it out"
    assert faults(folder, audio_root=tmp_path).summary == message


# What differs between two sets of clips


def test_the_digest_changes_with_all_that_an_answer_or_figure_depends_on(folder):
    first = read_clips(manifest(folder, asr())).digest()
    assert read_clips(manifest(folder, "", asr())).digest() == first
    for other in (
        asr(text="hallo"),
        asr(id="x"),
        asr(prompt="p"),
        asr(language="en"),
        asr("b.wav", id="a.wav"),
    ):
        assert read_clips(manifest(folder, other)).digest() != first
    (folder / "a.wav").write_bytes(b"other")
    assert read_clips(manifest(folder, asr())).digest() != first


# Faults


def test_every_fault_is_told_with_its_line(folder):
    source = manifest(
        folder,
        asr("none.wav"),
        "{broken",
        "[1]",
        {"audio": "a.wav", "text": "x", "task": "sing"},
        {"audio": "a.wav", "txt": "x", "task": "asr", "id": "txt"},
        asr(),
        asr(),
        asr("b.wav", " "),
        {"audio": 3, "text": ["x"], "task": "asr"},
        {"audio": "b.wav", "text": "x"},
        {"audio": "b.wav", "text": "no label", "task": "classify", "id": "label"},
        {"audio": "b.wav", "text": [], "task": "qa", "id": "qa"},
        {"text": "x", "task": "asr"},
    )
    error = faults(source)
    assert error.summary == f"clip list {source}: 12 faulty lines; nothing was run"
    assert [fault.partition(": ")[::2] for fault in error.faults] == [
        ("line 1", f"audio none.wav is not in {folder}"),
        ("line 2", f"is no JSON: Expecting property name enclosed in double quotes at column 2; {WRITE}"),
        ("line 3", f"is [1], not an object; {WRITE}"),
        ("line 4", "task 'sing' is unknown; give one of asr, translate, classify, caption, qa"),
        ("line 5", "key 'txt' is unknown; known: audio, text, label, task, id, language, prompt"),
        ("line 5", "no text, which asr is measured against"),
        ("line 7", "id a.wav#asr is that of line 6, too; give each an id of its own"),
        ("line 8", "text is empty"),
        ("line 9", "audio is 3; give a text"),
        ("line 9", 'text is ["x"]; give a text'),
        (
            "line 10",
            "no task; give one of asr, translate, classify, caption, qa, here or for all lines with --task",
        ),
        ("line 11", "no label, which classify is measured against"),
        ("line 12", "text is []; give a text or a list of texts"),
        ("line 13", "no audio; give the path of a file"),
    ]


@pytest.mark.parametrize("audio", ["../data/a.wav", "deep/../../data/a.wav", "/etc/hostname", ".."])
def test_audio_that_leaves_its_folder_is_refused(folder, audio):
    assert "leaves the folder" in faults(manifest(folder, asr(audio))).faults[0]


@pytest.mark.parametrize("audio", ["deep/../a.wav", "./a.wav"])
def test_a_path_that_comes_back_into_its_folder_is_fine(folder, audio):
    assert read_clips(manifest(folder, asr(audio))).clips[0].audio == audio


def test_audio_that_is_a_folder_or_no_path_at_all_is_missing(folder):
    error = faults(manifest(folder, asr("deep"), asr("a\0b")))
    assert [fault.split(" is not in ")[0] for fault in error.faults] == [
        "line 1: audio deep",
        "line 2: audio a\0b",
    ]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"\xff", "byte 1 is not UTF-8"),
        (b"[" * 100_000, "is nested deeper than 100 levels; write"),
        (
            b'{"audio": "a.wav", "task": "asr", "text": "\\ud800"}',
            "text holds half of a surrogate pair",
        ),
        (b'{"audio": "a.wav", "task": [], "text": "x"}', "task [] is unknown"),
        (b'{"audio": "a.wav", "task": "asr", "text": "x", "id": 7}', "id is 7; give a text"),
        (b'{"audio": "a.wav", "task": "asr", "text": "x", "id": ""}', "id is empty"),
        (b'{"audio": "a.wav", "task": "asr", "text": null}', "text is null; give a text"),
        (b"7" * 5000, "holds a number of 5000 digits"),
    ],
)
def test_whatever_bytes_a_line_has_it_is_a_fault_and_no_crash(folder, line, fault):
    source = folder / "clips.jsonl"
    source.write_bytes(line + b"\n")
    assert fault in faults(source).faults[0]


def test_an_empty_manifest_says_what_to_write(folder):
    assert str(faults(manifest(folder))).endswith("is empty: write each clip as one JSON object on a line")


def test_a_manifest_that_is_not_there(folder):
    assert "is no file and no folder" in str(faults(folder / "none.jsonl"))


def test_several_tasks_need_a_choice_and_an_absent_one_is_named(folder):
    source = manifest(folder, asr(), {"audio": "b.wav", "text": "x", "task": "qa"})
    assert "holds clips of asr, qa: choose one with --task" in str(faults(source))
    assert "holds no clip of caption, but of asr, qa" in str(faults(source, "caption"))


def test_every_fault_of_a_folder_is_told(folder):
    (folder / "a.txt").write_text(" \n")
    (folder / "a.flac").write_bytes(b"twin")
    (folder / "alone.txt").write_text("no audio")
    (folder / "deep/c.txt").write_bytes(b"\xff")
    error = faults(folder)
    assert error.summary == f"folder {folder}: 5 faulty files"
    assert error.faults == (
        "a.txt: is empty",
        "a.wav: shares its transcript with a.flac; keep one of them",
        "b.wav: no transcript b.txt beside it",
        "deep/c.txt: is not UTF-8",
        "alone.txt: no audio of this name beside it",
    )


def test_a_clip_list_in_a_folder_without_transcripts_is_named(folder):
    source = manifest(folder, asr())
    assert faults(folder).summary.endswith(f"; the clip list there is {source}")
    shutil.copy(source, folder / "other.jsonl")
    assert faults(folder).summary.endswith("3 faulty files")


@pytest.mark.parametrize("content", [b"fLaC\0\0\0\x22\n{}\n", '{"audio": "a.wav"}'.encode("utf-16")])
def test_what_is_no_text_is_told_once(folder, content):
    (folder / "clips.jsonl").write_bytes(content)
    assert str(faults(folder / "clips.jsonl")).endswith(
        "is no text in UTF-8: give JSONL in UTF-8, or a folder"
    )


def test_a_folder_without_audio_says_what_to_give(tmp_path):
    assert "holds no audio: give files of .wav" in str(faults(tmp_path))


def test_an_error_with_faults_survives_a_process_boundary(folder):
    error = faults(manifest(folder, "x", "y"))
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert len(str(error).splitlines()) == 3


@pytest.mark.parametrize("root", ["/", None])
def test_absolute_paths_below_the_audio_root_are_read(folder, tmp_path, root):
    audio = str(folder / "a.wav")
    source = manifest(tmp_path, asr(audio))
    (clip,) = read_clips(source, audio_root=root or folder).clips
    assert str(clip.path) == audio
    refused = faults(manifest(folder, asr("/etc/hostname"))).faults[0]
    assert "give --audio-root / or another folder that holds all of the audio" in refused


@pytest.mark.parametrize("audio", [".", "x" * 5000, "a\0b"])
def test_audio_that_is_no_name_of_a_file(folder, audio):
    assert "is not in" in faults(manifest(folder, asr(audio))).faults[0]
