"""Hashes of whole and sparse files."""

from __future__ import annotations

import hashlib
import os
import signal

import pytest
from blake3 import blake3

from fastadasp.runtime.artifact.hashing import CHUNK_BYTES, blake3_of, sha256


def of(path, tick=lambda _: None):
    with path.open("rb", buffering=0) as stream:
        return blake3_of(stream, path.stat().st_size, tick)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 5])
def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path, size):
    content = (bytes(range(251)) * (size // 251 + 1))[:size]
    path = tmp_path / "file"
    path.write_bytes(content)
    assert sha256(path) == hashlib.sha256(content).hexdigest()
    assert of(path) == blake3(content).hexdigest()


def test_holes_of_a_sparse_file_are_hashed_as_zeros(tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as stream:
        stream.write(b"start")
        stream.seek(3 * CHUNK_BYTES)
        stream.write(b"middle")
        stream.truncate(5 * CHUNK_BYTES + 3)
    assert sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert of(path) == blake3(path.read_bytes()).hexdigest()


def test_the_pieces_that_are_told_add_up_to_the_file(tmp_path):
    path, told = tmp_path / "file", []
    path.write_bytes(bytes(2 * CHUNK_BYTES + 5))
    of(path, told.append)
    assert told == [CHUNK_BYTES, CHUNK_BYTES, 5]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
def test_a_large_file_is_hashed_after_a_fork(tmp_path):
    """Threads that hash must not be shared: in the child they would be gone."""
    path = tmp_path / "file"
    path.write_bytes(bytes(3 * CHUNK_BYTES))
    expected = of(path)
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        os._exit(of(path) != expected)
    assert os.waitpid(child, 0)[1] == 0
