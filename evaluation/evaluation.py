"""An evaluation from clips to figures: the one function that `eval`, and whatever builds on it, calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..runtime.artifact.verification import Verify
from ..runtime.environment import Environment
from .answering import Progress, Run, answer
from .answers.answers import ClipAnswers
from .clips.clip import Clip, ClipSet
from .figures.profile_scores import ProfileScores, score_profiles
from .options import EvalOptions


@dataclass(frozen=True)
class Failure:
    """A clip that a profile could not answer."""

    clip: Clip
    profile: str
    reason: str


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation with all that is needed to read it."""

    artifact: dict[str, Any]
    clips: ClipSet
    clips_digest: str
    options: EvalOptions
    environment: Environment
    answers: tuple[ClipAnswers, ...]  # of all clips, in their order
    profiles: tuple[ProfileScores, ...]  # in the order asked for

    @property
    def records(self) -> Iterator[tuple[Clip, ClipAnswers]]:
        """Every clip with what it gave: references and prompt, hypotheses and failures."""
        return zip(self.clips.clips, self.answers, strict=True)

    @property
    def measured(self) -> tuple[Clip, ...]:
        """The clips that every profile has answered: all figures are over them."""
        return tuple(clip for clip, found in self.records if found.is_complete)

    @property
    def recordings(self) -> int:
        """How many recordings the measured clips are of: what the bootstrap draws."""
        pairs = zip(self.clips.recordings, self.answers, strict=True)
        return len({recording for recording, found in pairs if found.is_complete})

    @property
    def longest_seconds(self) -> float:
        """The length of the longest measured clip; 0 where there is none."""
        return max((found.audio_seconds for found in self.answers if found.is_complete), default=0.0)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """What keeps the other clips from being measured."""
        return tuple(
            Failure(clip, profile, reason)
            for clip, found in self.records
            for profile, reason in found.failures.items()
        )

    @property
    def normalizer(self) -> str:
        """The name of the text normaliser."""
        return self.options.normalizer_for(self.clips.task)


def evaluate(
    artifact: Path,
    clips: ClipSet,
    options: EvalOptions,
    progress: Progress = lambda *_: None,
    *,
    journal: Path | None = None,
    restart: bool = False,
    verify: Verify = "cached",
) -> Evaluation:
    """Answer clips under the profiles of an artifact, and measure the answers.

    Args:
        artifact: the folder that `build` wrote.
        clips: of one task, as `read_clips` gives them.
        options: profiles, search, normaliser, bootstrap, workers.
        progress: called at the start and after each clip.
        journal: a file for the answers, so that the same call goes on where an earlier one was stopped; the
            caller removes it. Without one nothing is kept.
        restart: forget what the journal holds.
        verify: when large files are hashed, as `open_artifact` has it.

    Raises:
        ArtifactError: missing, changed or of another version.
        ClipsError: references that are empty once they are normalised, where whole texts are compared.
        RequestError: an unknown profile, backend or provider; an artifact without a tokenizer.
        EngineError: engines that do not fit this machine.
        JournalError: the journal is of other settings, damaged or in use.
        OutputError: the journal cannot be written.
        WorkerError: a worker process died.
        ImportError: a package of the metrics or of the backend is not installed.
    """
    found = answer(Run(artifact, clips, options, journal, restart, verify), progress)
    scores = score_profiles(found.artifact.manifest, clips, found.answers, found.profiles, options)
    return Evaluation(
        found.artifact.identity(),
        clips,
        found.clips_digest,
        found.options,
        found.environment,
        found.answers,
        scores,
    )
