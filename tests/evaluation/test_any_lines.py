"""Whatever a journal or a clip list holds: it is read, or an error of the project names the line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastadasp.evaluation.answers.answers import Answer, ClipAnswers, Cost
from fastadasp.evaluation.answers.journal import open_journal
from fastadasp.evaluation.clips.read import read_clips
from fastadasp.profiles.errors import ClipsError, JournalError
from fuzzing import BAD, answered, changed, fuzz, mutants, places, removed, set_to

SETTINGS = {"artifact": "a1", "search": {"num_beams": 1}}
CLIP = {"audio": "a.wav", "text": "x", "task": "asr", "id": "a", "language": "en", "prompt": ""}
DONE = ClipAnswers(
    clip_id="b caf\udce9.wav",
    audio_rows=75,
    text_rows=12,
    answers={"full": Answer("hello", 3, True, 1.0)},
    failures={"half": "too short"},
    costs={"full": Cost((75, 75), 1.5, 2.5, 2)},
)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    with open_journal(tmp_path / "x.jsonl", SETTINGS) as journal:
        journal.append(DONE)
    return tmp_path / "x.jsonl"


def reopen(path: Path, content: Any) -> object:
    """What the journal holds if its second line is this."""
    header = path.read_text("utf-8").splitlines()[0]
    path.write_text(f"{header}\n{json.dumps(content)}\n", "utf-8")

    def answers() -> object:
        with open_journal(path, SETTINGS) as journal:
            return journal.answered

    found = answered(answers)
    assert isinstance(found, dict | JournalError)
    return found


def test_a_clip_whose_name_is_not_utf_8_comes_back(journal: Path) -> None:
    assert reopen(journal, DONE.to_json()) == {DONE.clip_id: DONE}


def test_each_field_of_a_journal_with_values_that_it_cannot_have(journal: Path) -> None:
    content = DONE.to_json()
    for place in places(content):
        for change in (*map(set_to, BAD), removed):
            found = reopen(journal, changed(json.loads(json.dumps(content)), place, change))
            if isinstance(found, dict):
                (answers,) = found.values()
                assert isinstance(answers.clip_id, str)
                assert all(isinstance(answer.text, str) for answer in answers.answers.values())


@pytest.mark.fuzz
@fuzz(60)
@given(data=st.data())
def test_any_line_of_a_journal(journal: Path, data: st.DataObject) -> None:
    reopen(journal, data.draw(mutants(json.loads(json.dumps(DONE.to_json())))))


@pytest.mark.fuzz
@fuzz(100)
@given(content=st.one_of(mutants(CLIP), st.text(), st.binary()))
def test_any_line_of_a_clip_list(tmp_path: Path, content: Any) -> None:
    (tmp_path / "a.wav").write_bytes(b"")
    line = content if isinstance(content, bytes) else json.dumps(content).encode()
    (tmp_path / "clips.jsonl").write_bytes(line + b"\n")
    found = answered(lambda: read_clips(tmp_path / "clips.jsonl", "asr"))
    assert not isinstance(found, Exception) or isinstance(found, ClipsError)
