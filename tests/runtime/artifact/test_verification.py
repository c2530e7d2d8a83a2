"""Large files: one flipped byte is found, whatever the cache holds, and each file is read once."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from fastadasp.profiles.errors import RequestError
from fastadasp.runtime.artifact import verdicts, verification
from fastadasp.runtime.artifact.artifact import record_of
from fastadasp.runtime.artifact.manifest import FileRecord
from fastadasp.runtime.artifact.verification import Verifier, Verify, large_files, remember_built, verify_of

SIZE = 3_000_000
HASH_FAULT = "does not match its hash"
posix = pytest.mark.skipif(os.name == "nt", reason="a system that tells no time of the last change")


@pytest.fixture(autouse=True)
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that counts as large; it is older than any tick of a clock."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(verification, "LARGE_BYTES", SIZE - 1)
    monkeypatch.setattr(verdicts, "FINE", 20_000_000)
    path = tmp_path / "weights"
    path.write_bytes(np.random.default_rng(0).bytes(SIZE))
    settle(path)
    return path


@pytest.fixture
def record(large: Path) -> FileRecord:
    return record_of(large)


def settle(path: Path) -> None:
    while not verification.identity_of(path.stat()).is_settled:
        time.sleep(0.01)


def read(path: Path, record: FileRecord, verify: Verify = "cached") -> tuple[str | None, int]:
    """What a new run finds wrong, and the bytes that it read for that."""
    told: list[int] = []
    with path.open("rb", buffering=0) as stream:
        fault = Verifier().first_fault(stream, record, verify, told.append)
    return fault, sum(told)


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(offset)
        (byte,) = stream.read(1)
        stream.seek(offset)
        stream.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_one_flipped_byte_is_found_wherever_it_is(large: Path, record: FileRecord, warm: bool) -> None:
    for offset in np.random.default_rng(1).integers(SIZE, size=50).tolist():
        if warm:
            settle(large)
            read(large, record)
            assert read(large, record) == (None, 0)
        flip(large, offset)
        assert read(large, record) == (HASH_FAULT, SIZE)
        flip(large, offset)
        assert read(large, record)[0] is None


@posix
def test_a_large_file_is_read_once(large: Path, record: FileRecord) -> None:
    assert read(large, record) == (None, SIZE)
    assert read(large, record) == (None, 0)
    assert read(large, record, "always") == (None, SIZE)


def test_a_file_that_is_not_large_is_read_each_time(
    large: Path, record: FileRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "LARGE_BYTES", SIZE)
    assert [read(large, record) for _ in range(2)] == [(None, SIZE)] * 2


def test_a_time_that_is_put_back_fools_nobody(large: Path, record: FileRecord) -> None:
    read(large, record)
    before = large.stat()
    flip(large, 1234)
    os.utime(large, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert large.stat().st_mtime_ns == before.st_mtime_ns
    assert read(large, record) == (HASH_FAULT, SIZE)


@posix
def test_what_a_file_is_touched_or_replaced_by_is_read_again(large: Path, record: FileRecord) -> None:
    for change in (large.touch, lambda: large.with_name("copy").write_bytes(large.read_bytes())):
        settle(large)
        read(large, record)
        assert read(large, record) == (None, 0)
        change()
        if (copy := large.with_name("copy")).exists():
            copy.replace(large)
        assert read(large, record) == (None, SIZE)


@posix
def test_a_file_that_was_written_to_just_now_is_read_again(
    large: Path, record: FileRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next write might get the same time."""
    monkeypatch.setattr(verdicts, "FINE", 10**12)  # so that it stays just now, however busy the machine is
    large.touch()
    assert [read(large, record) for _ in range(2)] == [(None, SIZE)] * 2


@posix
def test_what_rots_on_the_disk_is_found_by_always_and_then_by_all(large: Path, record: FileRecord) -> None:
    read(large, record)
    other = FileRecord(SIZE, "0" * 64)
    verification.remember(
        verification.identity_of(large.stat()), other.blake3
    )  # a verdict that is wrong by now
    assert read(large, other) == (None, 0)
    assert read(large, other, "always") == (HASH_FAULT, SIZE)
    assert read(large, other) == (HASH_FAULT, SIZE)


def test_never_reads_no_large_file_but_sees_its_size(large: Path, record: FileRecord) -> None:
    flip(large, 5)
    assert read(large, record, "never") == (None, 0)
    large.write_bytes(b"short")
    assert read(large, record, "never") == (f"has 5 bytes instead of {SIZE}", 0)


def test_never_trusts_only_the_file_that_was_opened(large: Path, record: FileRecord) -> None:
    verifier = Verifier()
    with large.open("rb", buffering=0) as stream:
        assert verifier.first_fault(stream, record, "never", lambda _: None) is None
        assert verifier.fault(stream, record) is None
        flip(large, 5)
        assert verifier.fault(stream, record) == HASH_FAULT


@posix
def test_the_verdict_of_a_build_spares_the_first_load(large: Path, record: FileRecord) -> None:
    link = large.with_name("link")
    link.hardlink_to(large)
    before = large_files(large.parent, ["weights"])
    link.unlink()  # of the artifact that was replaced
    remember_built(large.parent, {"weights": record}, before)
    assert read(large, record) == (None, 0)


def test_a_build_keeps_no_verdict_on_a_file_that_changes_under_it(large: Path, record: FileRecord) -> None:
    before = large_files(large.parent, ["weights"])
    flip(large, 7)
    remember_built(large.parent, {"weights": record}, before)
    assert read(large, record) == (HASH_FAULT, SIZE)


def test_how_to_verify() -> None:
    assert [verify_of(it) for it in ("cached", "always", "never", True, False)] == [
        "cached",
        "always",
        "never",
        "always",
        "cached",
    ]
    for wrong in ("sometimes", 1, None, b"always"):
        with pytest.raises(
            RequestError, match=r"verify is .*: give 'cached', 'always', 'never', True or False"
        ):
            verify_of(wrong)
