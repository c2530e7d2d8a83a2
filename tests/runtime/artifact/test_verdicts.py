"""Verdicts on files: kept by the identity of the file, and by nothing less."""

from __future__ import annotations

import os
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest

from fastadasp.runtime.artifact import verdicts
from fastadasp.runtime.artifact.verdicts import Identity, cache_folder, forget, is_known, remember

IDENTITY = Identity(1, 2, 3, 4, 5)
posix = pytest.mark.skipif(os.name == "nt", reason="a system that tells no time of the last change")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@posix
def test_a_verdict_is_kept_until_it_is_taken_back() -> None:
    assert not is_known(IDENTITY, "hash")
    remember(IDENTITY, "hash")
    assert is_known(IDENTITY, "hash")
    forget(IDENTITY, "hash")
    assert not is_known(IDENTITY, "hash")


@posix
@pytest.mark.parametrize("field", [field.name for field in fields(Identity)])
def test_a_verdict_is_of_one_file_in_one_state(field: str) -> None:
    remember(IDENTITY, "hash")
    assert not is_known(replace(IDENTITY, **{field: 9}), "hash")
    assert not is_known(IDENTITY, "other")


@posix
def test_a_verdict_of_another_machine_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    remember(IDENTITY, "hash")
    monkeypatch.setattr(verdicts, "_machine", lambda: ("another", "machine"))
    assert not is_known(IDENTITY, "hash")


@posix
@pytest.mark.parametrize("kind", ["file", "below a file", "no home"])
def test_without_a_folder_nothing_is_remembered(
    cache: Path, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a home that is read-only, which root could write to all the same."""
    cache.write_text("")
    if kind == "below a file":
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "below"))
    if kind == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", _no_home)
        assert cache_folder() is None
    remember(IDENTITY, "hash")
    forget(IDENTITY, "hash")
    assert not is_known(IDENTITY, "hash")
    assert list(tmp_path.iterdir()) == [cache]


def _no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


@posix
def test_the_folder_does_not_grow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "MOST", 4)
    for inode in range(20):
        remember(replace(IDENTITY, inode=inode), "hash")
        assert is_known(replace(IDENTITY, inode=inode), "hash")
    folder = cache_folder()
    assert folder is not None
    assert len(list(folder.iterdir())) <= 4


@pytest.mark.parametrize(
    ("age", "tick", "settled"),
    [(0.01, 1, False), (1.0, 1, True), (1.0, 0, False), (3.0, 0, True), (-5.0, 1, False)],
    ids=["a moment", "a second", "a second of a coarse clock", "three seconds of it", "from the future"],
)
def test_a_file_settles_once_the_next_write_gets_another_time(age: float, tick: int, settled: bool) -> None:
    whole = (time.time_ns() - int(age * 1e9)) // 1_000_000 * 1_000_000
    assert replace(IDENTITY, changed=whole + tick).is_settled is settled
