"""Lines of JSON: whole ones are read whatever the size of a read, and a torn one is cut off."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastadasp.evaluation.answers import lines
from fastadasp.evaluation.answers.lines import append_lines, whole_lines


@pytest.mark.parametrize("block", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("torn", [b"", b"to", b"\xff\x00"])
def test_whole_lines_are_read_and_what_follows_them_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, torn: bytes
) -> None:
    monkeypatch.setattr(lines, "BLOCK", block)
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b"one\n\nthree \r\n" + torn)
    with path.open("a+b", buffering=0) as stream:
        assert list(whole_lines(stream)) == [b"one", b"", b"three \r"]
        append_lines(stream, "lines", {"a": "ö"}, ascii=False)
    assert path.read_text("utf-8").splitlines()[-1] == '{"a": "ö"}'
    assert path.read_bytes().startswith(b"one\n\nthree \r\n{")
