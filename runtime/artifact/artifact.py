"""An artifact folder: find it, verify it, hand out its files."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

from blake3 import blake3

from ...profiles.errors import ArtifactError
from ...profiles.faults import few, is_unicode, shown
from .faults import manifest_faults
from .hashing import blake3_of
from .manifest import FILE_NAME, FileRecord, Graphs, Manifest, Weights, parse_manifest
from .verification import HASH_FAULT, Verifier, Verify

TOKENIZER = "tokenizer.json"
NO_TOKENIZER = "it has no tokenizer; add that of the original model to the checkpoint and build again"
CHECKPOINT_WEIGHTS = "*.safetensors"
PATIENCE = 1.0  # seconds after which it is told that files are being hashed
LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Artifact:
    """A verified artifact."""

    folder: Path
    manifest: Manifest
    verifier: Verifier = field(default_factory=Verifier, compare=False, repr=False)

    def path(self, name: str) -> Path:
        """The path of one file that the manifest lists."""
        if name not in self.manifest.files:
            raise ArtifactError(f"artifact {self.folder}: {name} is not listed in the manifest")
        return self.folder / name

    @contextmanager
    def opened(self, name: str) -> Iterator[FileIO]:
        """One file, open for reading, and still what the manifest says: whoever reads on from it reads that.

        Raises:
            ArtifactError: it has gone or changed since the artifact was opened, or cannot be read.
        """
        with self._open(name) as stream:
            with _readable(self.folder, name):
                fault = self.verifier.fault(stream, self.manifest.files[name])
            if fault:
                raise self._changed(name, fault)
            yield stream

    def read(self, name: str) -> bytes:
        """The content of one file, as the manifest knows it; errors are those of `opened`."""
        with self._open(name) as stream, _readable(self.folder, name):
            content = stream.readall()
        record = self.manifest.files[name]
        if len(content) != record.size:
            raise self._changed(name, f"has {len(content)} bytes instead of {record.size}")
        if blake3(content).hexdigest() != record.blake3:
            raise self._changed(name, HASH_FAULT)
        return content

    def _open(self, name: str) -> FileIO:
        path = self.path(name)
        with _readable(self.folder, name):
            stream = _open_file(path)
        if stream is None:
            raise ArtifactError(
                f"artifact {self.folder}: {name} has gone since the model was loaded; "
                "put the artifact back, or load it from where it is now"
            )
        return stream

    def _changed(self, name: str, fault: str) -> ArtifactError:
        return ArtifactError(
            f"artifact {self.folder}: {name} has changed since the artifact was opened (it {fault}); "
            "load the artifact again"
        )

    def graphs(self, target: str) -> Graphs:
        """The graphs for a target.

        Raises:
            ArtifactError: it was built for others only.
        """
        if target not in self.manifest.graphs:
            raise ArtifactError(
                f"artifact {self.folder}: it has no graphs for {target}, only for "
                f"{', '.join(self.manifest.graphs)}; build it with --target {target}, or use another backend"
            )
        return self.manifest.graphs[target]

    def weights(self, graphs: Graphs) -> Weights:
        """The places of the weights that some of its graphs refer to."""
        return self.manifest.weights[graphs.weights]

    def identity(self) -> dict[str, Any]:
        """What a result file says of the artifact that was measured, as JSON takes it."""
        manifest = self.manifest
        return {
            "folder": str(self.folder),
            "digest": manifest.digest,
            "shared": [manifest.shared_digest(target) for target in manifest.graphs],
            "family": manifest.family,
            "precision": manifest.precision,
            "built_with": dict(manifest.versions),
            "ratios": {name: str(resolved.ratio) for name, resolved in manifest.profiles.items()},
        }

    @property
    def has_tokenizer(self) -> bool:
        """Whether the checkpoint had a tokenizer: then it is the file `TOKENIZER`."""
        return TOKENIZER in self.manifest.files


def open_artifact(folder: Path, *, verify: Verify = "cached") -> Artifact:
    """Open and verify an artifact: every file by size and hash.

    Args:
        folder: the folder that `build` wrote.
        verify: when a large file is hashed. "cached": unless this machine has done so since it was last
            written; "always"; "never".

    Raises:
        ArtifactError: missing, unreadable or changed files (all of them in one message), another format
            version.
    """
    if not is_unicode(str(folder)):
        raise ArtifactError(f"artifact {shown(str(folder))}: its path is not UTF-8; move it to one that is")
    manifest_path = folder / FILE_NAME
    with _readable(folder, FILE_NAME):
        content = manifest_path.read_bytes() if manifest_path.is_file() else None
    if content is None:
        raise ArtifactError(f"artifact {folder}: {_what_else(folder)}")
    opened = Artifact(folder, _manifest(content, manifest_path))
    if faults := list(_faults(opened, verify)):
        if _content(manifest_path) != content:
            raise ArtifactError(f"artifact {folder}: it was replaced while it was opened; open it again")
        raise ArtifactError(f"artifact {folder}: {'; '.join(faults)}; build or copy it again")
    return opened


def _what_else(folder: Path) -> str:
    """What stands in the place of an artifact, and the remedy."""
    if not os.path.lexists(folder):
        return "no such folder; check the path, or make it with: fastadasp-export build"
    if not folder.is_dir():
        return "it is a file; give the folder that fastadasp-export build has made, before any clip"
    if around := next(filter(_is_artifact, folder.resolve().parents), None):
        return f"it is a part of the artifact {around}; give that"
    if any(folder.glob(CHECKPOINT_WEIGHTS)):  # an artifact may have the settings of one
        return f"it is a checkpoint; build it first: fastadasp-export build {folder} -o ART"
    return f"no {FILE_NAME} there; make one with: fastadasp-export build"


def _is_artifact(folder: Path) -> bool:
    """Whether a manifest of this version is there."""
    if (content := _content(folder / FILE_NAME)) is None:
        return False
    try:
        parse_manifest(content, str(folder))
    except ArtifactError:
        return False
    return True


def _manifest(content: bytes, path: Path) -> Manifest:
    """A manifest that holds what it should, whoever wrote it; nothing that it names has been looked at."""
    manifest = parse_manifest(content, str(path))
    if faults := list(manifest_faults(manifest)):
        raise ArtifactError(f"{path}: {'; '.join(few(faults))}; build the artifact again")
    return manifest


def record_of(path: Path, tick: Callable[[int], None] = lambda _: None) -> FileRecord:
    """Size and hash of one file, as the manifest keeps them; `tick` is that of `blake3_of`."""
    with path.open("rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        return FileRecord(size, blake3_of(stream, size, tick))


def _faults(opened: Artifact, verify: Verify) -> Iterator[str]:
    """What is wrong with the files."""
    tick = _telling(opened)
    for name, record in opened.manifest.files.items():
        try:
            stream = _open_file(opened.folder / name)
            with stream or nullcontext():
                fault = opened.verifier.first_fault(stream, record, verify, tick) if stream else "is missing"
        except OSError as error:
            fault = _unreadable(error)
        if fault:
            yield f"{name} {fault}"


def _content(path: Path) -> bytes | None:
    """The bytes of a file; None where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return None


@contextmanager
def _readable(folder: Path, name: str) -> Iterator[None]:
    """Errors of the system become those of this artifact."""
    try:
        yield
    except OSError as error:
        raise ArtifactError(f"artifact {folder}: {name} {_unreadable(error)}") from error


def _unreadable(error: OSError) -> str:
    return f"cannot be read ({error.strerror or error}): check the path, its permissions and the disk"


def _open_file(path: Path) -> FileIO | None:
    """Open a regular file; None where there is none, or none any more."""
    try:
        return path.open("rb", buffering=0) if path.is_file() else None
    except (FileNotFoundError, NotADirectoryError):
        return None


def _telling(opened: Artifact) -> Callable[[int], None]:
    """What logs, once, that files are being hashed, if that takes long."""
    begin, told = time.monotonic(), False

    def tick(_: int) -> None:
        nonlocal told
        if not told and time.monotonic() - begin > PATIENCE:
            told = True
            size = sum(record.size for record in opened.manifest.files.values())
            LOGGER.info("verifying %s by hash: %.3g GB", opened.folder, size / 1e9)

    return tick
