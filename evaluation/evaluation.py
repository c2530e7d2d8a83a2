"""An evaluation from clips to figures: the one function that `eval`, and whatever builds on it, calls."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..profiles.errors import RequestError
from ..runtime.artifact.artifact import Artifact, open_artifact
from ..runtime.artifact.manifest import Manifest
from ..runtime.artifact.verification import Verify
from ..runtime.environment import Environment, environment
from .answers.answers import ClipAnswers
from .answers.journal import open_journal
from .answers.workers import Job, answer_clips, usable_cores
from .clips.clip import Clip, ClipSet
from .figures.profile_scores import ProfileScores, score_profiles
from .metrics.normalizers import NORMALIZERS
from .metrics.tasks import TASKS
from .options import EvalOptions

LIBRARIES = ("jiwer", "sacrebleu", "scikit-learn", "pycocoevalcap", "whisper-normalizer")
STEP = "answer clips"
LOGGER = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Told what is being done, the clips done and the clips in all: at the start and after each clip."""


@dataclass(frozen=True)
class Failure:
    """A clip that a profile could not answer."""

    clip: Clip
    profile: str
    reason: str


@dataclass(frozen=True)
class Run:
    """Clips to be answered under the profiles of an artifact, and where the answers are kept."""

    artifact: Path
    clips: ClipSet
    options: EvalOptions
    journal: Path | None = None
    restart: bool = False  # forget what the journal holds
    verify: Verify = "cached"  # when large files are hashed, as `open_artifact` has it


@dataclass(frozen=True)
class Answered:
    """Clips with their answers, none of them measured yet."""

    artifact: Artifact
    profiles: tuple[str, ...]  # in the order asked for
    clips_digest: str
    options: EvalOptions  # with all that the search leaves out
    environment: Environment
    answers: tuple[ClipAnswers, ...]  # of all clips, in their order


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


def answer(run: Run, progress: Progress = lambda *_: None) -> Answered:
    """The first half of `evaluate`: answer the clips. Errors are the same."""
    opened = open_artifact(run.artifact, verify=run.verify)
    manifest, clips = opened.manifest, run.clips
    options = run.options.resolved(manifest.generation, manifest.decoder.dims.vocab_size)
    profiles = _profiles(opened, options)
    _hint(manifest, clips)
    _load_metrics(clips, options)
    begun, digest = _environment(options), clips.digest()
    # What was hashed just now, for whatever reason, is not hashed again by each process.
    again: Verify = "never" if run.verify == "never" else "cached"
    job = Job(run.artifact, opened.manifest.digest, profiles, options.search, options.runtime, again)
    settings = _settings(opened, digest, job, begun)
    with open_journal(run.journal, settings, restart=run.restart) if run.journal else nullcontext() as kept:
        answers = {} if kept is None else dict(kept.answered)
        left = [clip for clip in clips.clips if clip.id not in answers]
        progress(STEP, len(answers), len(clips.clips))
        for found in answer_clips(job, left, options.workers):
            if kept is not None:
                kept.append(found)
            answers[found.clip_id] = found
            progress(STEP, len(answers), len(clips.clips))
    in_order = tuple(answers[clip.id] for clip in clips.clips)
    return Answered(opened, profiles, digest, options, begun, in_order)


def _hint(manifest: Manifest, clips: ClipSet) -> None:
    """Say that nothing is asked, where that is so: the answers may be to another question than the user's."""
    silent = sum(not clip.prompt for clip in clips.clips)
    if silent and manifest.prompt is not None and manifest.prompt.default_prompt is None:
        LOGGER.info(
            "hint: %d of %d clips have no prompt, so the model hears audio and no question; give --prompt",
            silent,
            len(clips.clips),
        )


def _profiles(artifact: Artifact, options: EvalOptions) -> tuple[str, ...]:
    """The profiles that were asked for, or all."""
    known = tuple(artifact.manifest.profiles)
    if unknown := [name for name in options.profiles if name not in known]:
        raise RequestError(
            f"profile {', '.join(unknown)} is not in {artifact.folder}; it has: {', '.join(known)}"
        )
    if not artifact.has_tokenizer:
        raise RequestError(f"artifact {artifact.folder} has no tokenizer, so there is no text to measure")
    return options.profiles or known


def _load_metrics(clips: ClipSet, options: EvalOptions) -> None:
    """Tell what the metrics lack before hours of work, not after them."""
    TASKS[clips.task].measure_for(clips.languages)
    NORMALIZERS[options.normalizer_for(clips.task)].load()


def _environment(options: EvalOptions) -> Environment:
    threads = options.runtime.threads or max(1, usable_cores() // options.workers)
    return replace(environment(threads, LIBRARIES), workers=options.workers)


def _settings(artifact: Artifact, clips: str, job: Job, machine: Environment) -> dict[str, Any]:
    """All that an answer depends on; metrics and normaliser may change over the same answers."""
    return {
        "artifact": artifact.manifest.digest,
        "clips": clips,
        "profiles": list(job.profiles),
        "search": asdict(job.search),
        **job.runtime.recorded(),
        "libraries": {name: it for name, it in machine.libraries.items() if name not in LIBRARIES},
    }
