"""Hashes of whole, sparse and sampled files."""

from __future__ import annotations

import hashlib

import pytest

from fastadasp.runtime.artifact.hashing import CHUNK_BYTES, SAMPLE_BYTES, SAMPLES, sampled_sha256, sha256


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 5])
def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path, size):
    content = (bytes(range(251)) * (size // 251 + 1))[:size]
    path = tmp_path / "file"
    path.write_bytes(content)
    assert sha256(path) == hashlib.sha256(content).hexdigest()


def test_holes_of_a_sparse_file_are_hashed_as_zeros(tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as stream:
        stream.write(b"start")
        stream.seek(3 * CHUNK_BYTES)
        stream.write(b"middle")
        stream.truncate(5 * CHUNK_BYTES + 3)
    assert sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_sample_covers_the_first_and_the_last_byte(tmp_path):
    size = 2 * SAMPLES * SAMPLE_BYTES
    path = tmp_path / "file"
    path.write_bytes(bytes(size))
    before = sampled_sha256(path)
    for offset in (0, size - 1):
        with path.open("r+b") as stream:
            stream.seek(offset)
            stream.write(b"x")
        assert sampled_sha256(path) != before
        with path.open("r+b") as stream:
            stream.seek(offset)
            stream.write(b"\0")
    assert sampled_sha256(path) == before
