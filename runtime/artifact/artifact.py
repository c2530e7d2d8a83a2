"""An artifact folder: find it, verify it, hand out its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...profiles.errors import ArtifactError
from ...profiles.faults import few, is_unicode, shown
from .faults import manifest_faults
from .hashing import sampled_sha256, sha256
from .manifest import FILE_NAME, FileRecord, Graphs, Manifest, Weights, parse_manifest

TOKENIZER = "tokenizer.json"
QUICK_BYTES = 64 << 20  # files up to this size are hashed whole on every load


@dataclass(frozen=True)
class Artifact:
    """A verified artifact."""

    folder: Path
    manifest: Manifest

    def path(self, name: str) -> Path:
        """The path of one file that the manifest lists."""
        if name not in self.manifest.files:
            raise ArtifactError(f"artifact {self.folder}: {name} is not listed in the manifest")
        return self.folder / name

    def present(self, name: str) -> Path:
        """As `path`, of a file that may have gone since the artifact was opened.

        Raises:
            ArtifactError: it has.
        """
        path = self.path(name)
        if not path.is_file():
            raise ArtifactError(
                f"artifact {self.folder}: {name} has gone since the model was loaded; "
                "put the artifact back, or load it from where it is now"
            )
        return path

    def graphs(self, target: str) -> Graphs:
        """The graphs for a target.

        Raises:
            ArtifactError: it was built for others only.
        """
        if target not in self.manifest.graphs:
            raise ArtifactError(
                f"artifact {self.folder}: it has no graphs for {target}, only for "
                f"{', '.join(self.manifest.graphs)}; build it for {target}, or use another backend"
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
            "family": manifest.family,
            "precision": manifest.precision,
            "built_with": dict(manifest.versions),
            "ratios": {name: str(resolved.ratio) for name, resolved in manifest.profiles.items()},
        }

    @property
    def tokenizer(self) -> Path | None:
        """The tokenizer, where the checkpoint had one."""
        return self.path(TOKENIZER) if TOKENIZER in self.manifest.files else None


def open_artifact(folder: Path, *, full: bool = False) -> Artifact:
    """Open and verify an artifact: every file by size and hash, large weights by sampled blocks.

    Args:
        folder: the folder that `build` wrote.
        full: hash the large weight files whole as well.

    Raises:
        ArtifactError: missing or changed files (all of them in one message), another format version.
    """
    if not is_unicode(str(folder)):
        raise ArtifactError(f"artifact {shown(str(folder))}: its path is not UTF-8; move it to one that is")
    manifest_path = folder / FILE_NAME
    if not manifest_path.is_file():
        raise ArtifactError(f"artifact {folder}: no {FILE_NAME} there; make one with: fastadasp-export build")
    manifest = _manifest(manifest_path)
    faults = [
        fault for name, record in manifest.files.items() if (fault := _fault(folder, name, record, full))
    ]
    if faults:
        raise ArtifactError(f"artifact {folder}: {'; '.join(faults)}; build or copy it again")
    return Artifact(folder, manifest)


def _manifest(path: Path) -> Manifest:
    """A manifest that holds what it should, whoever wrote it; nothing that it names has been looked at."""
    manifest = parse_manifest(path.read_bytes(), str(path))
    if faults := list(manifest_faults(manifest)):
        raise ArtifactError(f"{path}: {'; '.join(few(faults))}; build the artifact again")
    return manifest


def record_of(path: Path) -> FileRecord:
    """Size and hashes of one file, as the manifest keeps them."""
    return FileRecord(size=path.stat().st_size, sha256=sha256(path), sample=sampled_sha256(path))


def _fault(folder: Path, name: str, record: FileRecord, full: bool) -> str | None:
    """What is wrong with one file, or None."""
    path = folder / name
    if not path.is_file():
        return f"{name} is missing"
    if path.stat().st_size != record.size:
        return f"{name} has {path.stat().st_size} bytes instead of {record.size}"
    if full or record.size <= QUICK_BYTES:
        matches = sha256(path) == record.sha256
    else:
        matches = sampled_sha256(path) == record.sample
    return None if matches else f"{name} does not match its hash"
