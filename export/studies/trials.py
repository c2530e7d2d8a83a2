"""Profiles tried on clips: one artifact holds them all, and each evaluation answers some of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...evaluation.answering import Progress
from ...evaluation.clips.clip import ClipSet
from ...evaluation.evaluation import Evaluation, evaluate
from ...evaluation.options import EvalOptions
from ...profiles.locked import remove
from ...profiles.methods import FULL
from ...profiles.profile import Profile
from ...runtime.artifact.artifact import open_artifact
from ...runtime.artifact.manifest import Manifest
from ..options import BuildOptions
from ..pipeline import build

FULL_PROFILE = Profile(FULL, FULL)
ARTIFACT = "artifact"


@dataclass(frozen=True)
class Trials:
    """An artifact of everything that may be tried, and the journals of what was."""

    folder: Path
    options: EvalOptions

    @property
    def artifact(self) -> Path:
        """The artifact."""
        return self.folder / ARTIFACT

    @property
    def content(self) -> str:
        """Hash of all that the artifact holds."""
        return open_artifact(self.artifact).manifest.digest

    def evaluate(self, name: str, clips: ClipSet, profiles: Sequence[str], progress: Progress) -> Evaluation:
        """Answer clips under `full` and some profiles.

        Args:
            name: of the journal.
            clips: what to answer.
            profiles: names within the artifact.
            progress: called after each clip.

        Raises:
            As `evaluate`.
        """
        options = replace(self.options, profiles=(FULL, *profiles))
        return evaluate(self.artifact, clips, options, progress, journal=self.folder / f"{name}.jsonl")


def unanswered(found: Evaluation) -> str | None:
    """Why an evaluation has no figures; None where it has some."""
    if found.measured:
        return None
    first = found.failures[0]
    return f"no clip was answered under every profile: {first.clip.id}: {first.reason}"


def build_trials(
    checkpoint: Path,
    profiles: Sequence[Profile],
    folder: Path,
    options: EvalOptions,
    progress: Progress = lambda *_: None,
    lora: Path | None = None,
) -> Trials:
    """Build what may be tried, as `build_beside_full` does."""
    build_beside_full(checkpoint, profiles, folder / ARTIFACT, progress, lora=lora)
    return Trials(folder, options)


def build_beside_full(
    checkpoint: Path,
    profiles: Sequence[Profile],
    artifact: Path,
    progress: Progress,
    quantize: str | None = None,
    lora: Path | None = None,
) -> Manifest:
    """Build the artifact of `full` and the profiles, anew each time: equal bytes take the same journals.

    Raises:
        CheckpointError, ProfileError, OutputError: as `build`.
    """
    options = BuildOptions((FULL_PROFILE, *profiles), quantize=quantize, lora=lora)
    remove(artifact)  # of an earlier run, which may have been killed while it was removed
    return build(checkpoint, artifact, options, lambda stage: progress(stage, 0, 1))
