"""The journal: what was answered is found again, once, and never under other settings."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from fastadasp.evaluation.answers import work_folder as module
from fastadasp.evaluation.answers.answers import Answer, ClipAnswers, Cost
from fastadasp.evaluation.answers.journal import open_journal
from fastadasp.evaluation.answers.lock import lock
from fastadasp.profiles.errors import JournalError, OutputError

SETTINGS = {"artifact": "a1", "profiles": ["full"], "search": {"num_beams": 1}}
DONE = ClipAnswers(
    "ö.wav", 12, 3, {"full": Answer("text ☂", 4, True, 1 / 3)}, costs={"full": Cost((12, 6), 1 / 3, 2.5, 3)}
)
FAILED = ClipAnswers("b.wav", failures={"full": "audio b.wav is corrupt"})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "eval.json.journal.jsonl"


def write(path, *answers, settings=SETTINGS, **options):
    with open_journal(path, settings, **options) as journal:
        for found in answers:
            journal.append(found)
        return journal.answered


def test_answers_and_failures_come_back_as_they_were(path):
    assert write(path, DONE, FAILED) == {}
    assert write(path) == {DONE.clip_id: DONE, FAILED.clip_id: FAILED}


@pytest.mark.parametrize("cut", [1, 2, 30])
def test_a_torn_last_line_is_dropped_and_the_next_one_is_whole(path, cut):
    write(path, DONE, FAILED)
    path.write_bytes(path.read_bytes()[:-cut])
    assert write(path, FAILED) == {DONE.clip_id: DONE}
    assert write(path) == {DONE.clip_id: DONE, FAILED.clip_id: FAILED}


def test_without_an_answer_no_journal_is_left_behind(path):
    write(path)
    assert not path.exists()


def test_a_torn_first_line_is_a_journal_that_has_not_begun(path):
    write(path, DONE)
    path.write_bytes(path.read_bytes().split(b"\n")[0][:-5])
    assert write(path, DONE) == {}
    assert write(path) == {DONE.clip_id: DONE}


def test_a_clip_that_stands_there_twice_counts_once(path):
    write(path, DONE, DONE)
    assert write(path) == {DONE.clip_id: DONE}


def test_other_settings_are_refused_by_name_until_restarted(path):
    write(path, DONE)
    other = {**SETTINGS, "artifact": "a2", "search": {"num_beams": 5}}
    with pytest.raises(
        JournalError, match="other settings: artifact, search; go on with those, or start again"
    ):
        write(path, settings=other)
    assert write(path) == {DONE.clip_id: DONE}
    assert write(path, FAILED, settings=other, restart=True) == {}
    assert write(path, settings=other) == {FAILED.clip_id: FAILED}


@pytest.mark.parametrize("line", ["{}", "[]", "nonsense", '{"clip_id": "x", "answers": {"full": {}}}'])
def test_a_damaged_line_is_named(path, line):
    write(path, DONE)
    with path.open("a") as stream:
        stream.write(f"{line}\n")
    with pytest.raises(JournalError, match="line 3 is damaged; start again with --restart"):
        write(path)


@pytest.mark.parametrize(
    "line", ["{}", "[]", '{"format_version": 0, "kind": "eval journal", "settings": {}}']
)
def test_another_file_in_its_place_is_not_taken_for_a_journal(path, line):
    path.write_text(f"{line}\n")
    with pytest.raises(JournalError, match="start again with --restart"):
        write(path)
    assert path.read_text() == f"{line}\n"


def test_two_runs_cannot_share_it(path):
    program = (
        "import json, sys; from pathlib import Path\n"
        "from fastadasp.evaluation.answers.journal import open_journal\n"
        "with open_journal(Path(sys.argv[1]), json.loads(sys.argv[2])): pass\n"
    )
    with open_journal(path, SETTINGS):
        command = [sys.executable, "-c", program, str(path), json.dumps(SETTINGS)]
        second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "is in use by another run" in second.stderr
    write(path)


@pytest.mark.parametrize("comes_back", [False, True])
def test_a_file_that_a_run_removes_as_it_ends_is_in_use_for_whoever_has_just_opened_it(path, comes_back):
    with path.open("a+b", buffering=0) as stream:
        path.unlink()
        if comes_back:
            path.touch()
        with pytest.raises(JournalError, match="is in use by another run"):
            lock(stream, path)


def test_a_work_folder_that_is_removed_as_it_is_opened_is_in_use(tmp_path, monkeypatch):
    def lock_late(stream, path, used):
        path.unlink()
        lock(stream, path, used)

    monkeypatch.setattr(module, "lock", lock_late)
    with (
        pytest.raises(JournalError, match=r"a\.json\.work is in use by another run"),
        module.work_folder(tmp_path / "a.json"),
    ):
        pass


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(OutputError, match=r"journal .*none/x\.jsonl: No such file or directory"):
        write(tmp_path / "none" / "x.jsonl")
