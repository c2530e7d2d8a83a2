"""Figures of result files written into the manifest of an artifact; no other file of it changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...evaluation.gate.taken import SUMMARY, accuracy_of, latency_of
from ...evaluation.results.files import Result, ResultFile, read_results
from ...profiles.errors import OutputError, ResultsError
from ...profiles.locked import held
from ...runtime.artifact.artifact import open_artifact
from ...runtime.artifact.faults import manifest_faults
from ...runtime.artifact.manifest import FILE_NAME, Manifest
from ...runtime.choice.figures import Figures
from ..file import write_file
from ..scratch import remove_leftovers


@dataclass(frozen=True)
class Sources:
    """Result files that were read."""

    accepted: tuple[ResultFile[Result], ...]  # of eval and tune
    latency: ResultFile[Result] | None  # of bench
    least_recordings: int

    @classmethod
    def read(cls, accepted: Sequence[Path], latency: Path | None, least_recordings: int) -> Sources:
        """Read all files.

        Raises:
            ResultsError: with every fault of each.
        """
        paths = tuple(dict.fromkeys((*accepted, *(() if latency is None else (latency,)))))
        files = dict(zip(paths, read_results(paths).files, strict=True))
        chosen = None if latency is None else files[latency]
        return cls(tuple(files[path] for path in dict.fromkeys(accepted)), chosen, least_recordings)


def take_in(artifact: Path, sources: Sources) -> Manifest:
    """Write figures into an artifact. Those of a kind that is given replace all of that kind.

    Raises:
        ArtifactError: missing, changed or of another version.
        ResultsError: files that say nothing of this artifact, and why.
        OutputError: its manifest cannot be written.
    """
    remove_leftovers(artifact / FILE_NAME)
    with held(artifact):
        manifest = open_artifact(artifact).manifest
        found = manifest.figures or Figures()
        if sources.accepted:
            accuracy = accuracy_of(manifest, sources.accepted, sources.least_recordings)
            found = replace(found, accuracy=accuracy)
        if sources.latency:
            found = replace(found, latency=latency_of(manifest, sources.latency))
        changed = replace(manifest, figures=found)
        if faults := list(manifest_faults(changed)):  # of files that no command of ours wrote
            raise ResultsError(SUMMARY, faults)
        try:
            write_file(artifact / FILE_NAME, changed.to_json().encode("utf-8"))
        except OSError as error:
            raise OutputError(
                f"{artifact / FILE_NAME} cannot be written ({error.strerror}); check its permissions"
            ) from None
    return changed
