"""Clips answered under the profiles of artifacts: one run, or several whose answers take turns."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from ..profiles.errors import ClipsError, RequestError
from ..profiles.faults import shown
from ..runtime.artifact.artifact import NO_TOKENIZER, Artifact, open_artifact
from ..runtime.artifact.manifest import Manifest
from ..runtime.artifact.verification import Verify
from ..runtime.environment import Environment, environment
from .answers.answers import ClipAnswers
from .answers.journal import Journal, open_journal
from .answers.workers import Job, answer_clips, usable_cores
from .clips.clip import Clip, ClipSet
from .metrics.metric import EMPTY_REFERENCE
from .metrics.normalizers import NORMALIZERS
from .metrics.tasks import TASKS
from .options import EvalOptions

LIBRARIES = ("jiwer", "sacrebleu", "scikit-learn", "pycocoevalcap", "whisper-normalizer")
STEP = "answer clips"
LOGGER = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Told what is being done, the clips done and the clips in all: at the start and after each clip."""


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
    timed: bool  # whether their times tell of the profiles, those that an earlier call has measured included


def answer(run: Run, progress: Progress = lambda *_: None) -> Answered:
    """The first half of `evaluate`, with its errors: answer the clips, measure nothing."""
    (found,) = answer_in_turn((run,), progress)
    return found


def answer_in_turn(runs: Sequence[Run], progress: Progress = lambda *_: None) -> tuple[Answered, ...]:
    """Answer the clips of several runs, as `answer` does one.

    With one worker each, the runs answer a clip in turn, all artifacts loaded at once: what slows the machine
    for a while slows all of them. With several workers, whose times mean nothing, run follows run.
    """
    with ExitStack() as stack:
        begun = [_Begun.of(run, stack) for run in runs]
        hint_at_prompts(begun[0].artifact.manifest, begun[0].clips.clips)
        done, total = sum(len(each.answers) for each in begun), sum(len(run.clips.clips) for run in runs)
        progress(STEP, done, total)
        for _ in _turns(
            [each.answer_clips() for each in begun], all(run.options.workers == 1 for run in runs)
        ):
            done += 1
            progress(STEP, done, total)
    return tuple(each.answered for each in begun)


def _turns(streams: Sequence[Iterator[ClipAnswers]], in_turn: bool) -> Iterable[ClipAnswers]:
    """What all streams give: one of each at a time, or stream after stream."""
    if not in_turn:
        return chain.from_iterable(streams)
    return (found for found in chain.from_iterable(zip_longest(*streams)) if found is not None)


@dataclass(frozen=True)
class _Begun:
    """A run whose clips are being answered."""

    clips: ClipSet
    artifact: Artifact
    clips_digest: str
    options: EvalOptions
    environment: Environment
    job: Job
    journal: Journal | None
    answers: dict[str, ClipAnswers]  # by the id of the clip

    @classmethod
    def of(cls, run: Run, stack: ExitStack) -> _Begun:
        """Check what can be checked before hours of work; `stack` closes the journal."""
        opened = open_artifact(run.artifact, verify=run.verify)
        manifest, clips = opened.manifest, run.clips
        options = run.options.resolved(manifest.generation, manifest.decoder.dims.vocab_size)
        profiles = _profiles(opened, options)
        check_metrics(clips, options)
        begun, digest = _environment(options), clips.digest()
        # What was hashed just now, for whatever reason, is not hashed again by each process.
        again: Verify = "never" if run.verify == "never" else "cached"
        job = Job(
            run.artifact,
            opened.manifest.digest,
            profiles,
            options.search,
            options.runtime,
            again,
            options.token_loss,
            options.at_once,
        )
        settings = _settings(opened, digest, job, begun)
        kept = None
        if run.journal:
            kept = stack.enter_context(open_journal(run.journal, settings, restart=run.restart))
        return cls(clips, opened, digest, options, begun, job, kept, dict(kept.answered) if kept else {})

    def answer_clips(self) -> Iterator[ClipAnswers]:
        """Answer the clips that the journal lacks, each written there before it is given."""
        left = [clip for clip in self.clips.clips if clip.id not in self.answers]
        machine = self.environment
        for answers in answer_clips(self.job, left, self.options.workers):
            found = replace(answers, workers=machine.workers, threads=machine.threads)
            if self.journal is not None:
                self.journal.append(found)
            self.answers[found.clip_id] = found
            yield found

    @property
    def answered(self) -> Answered:
        """All answers, once they are there."""
        in_order = tuple(self.answers[clip.id] for clip in self.clips.clips)
        return Answered(
            self.artifact,
            self.job.profiles,
            self.clips_digest,
            self.options,
            self.environment,
            in_order,
            self.options.is_timed and self._are_alike(in_order),
        )

    def _are_alike(self, answers: Iterable[ClipAnswers]) -> bool:
        """Whether all times were measured with the workers and threads of this call."""
        own = self.environment.workers, self.environment.threads
        return all((found.workers, found.threads) == own for found in answers if found.costs)


def hint_at_prompts(manifest: Manifest, clips: Sequence[Clip]) -> None:
    """Say that nothing is asked, where that is so: the answers may be to another question than the user's."""
    silent = sum(not clip.prompt for clip in clips)
    if silent and manifest.prompt is not None and not manifest.prompt.asks_by_itself:
        LOGGER.info(
            "hint: %d of %d clips have no prompt, so the model hears audio and no question; give --prompt",
            silent,
            len(clips),
        )


def _profiles(artifact: Artifact, options: EvalOptions) -> tuple[str, ...]:
    """The profiles that were asked for, or all."""
    known = tuple(artifact.manifest.profiles)
    if unknown := [name for name in options.profiles if name not in known]:
        raise RequestError(
            f"profile {', '.join(unknown)} is not in {artifact.folder}; it has: {', '.join(known)}"
        )
    first = (options.profiles or known)[0]
    if options.max_loss is not None and artifact.manifest.profiles[first].profile.traits.reduces:
        raise RequestError(
            f"a budget of accuracy is against the unreduced model, and the first profile is {first}, which "
            "reduces: name full first (--profile full,…), and build with it if it is not there"
        )
    if options.max_loss is not None and len(options.profiles or known) < 2:
        raise RequestError(
            f"a budget of accuracy is of what others lose against {first}, and there is no other: name "
            "one more (--profile full,…), or give no budget"
        )
    if not artifact.has_tokenizer:
        raise RequestError(f"artifact {artifact.folder}: {NO_TOKENIZER}")
    return options.profiles or known


def check_metrics(clips: ClipSet, options: EvalOptions) -> None:
    """Tell what the metrics lack before hours of work, not after them.

    Raises:
        ClipsError: clips of which no answer can be right, for no text is left of their references.
        ImportError: a package of the metrics or of the normaliser is not installed.
    """
    task = TASKS[clips.task]
    task.measure_for(clips.languages)
    normalize = NORMALIZERS[options.normalizer_for(clips.task)].load()
    if not task.whole_texts:
        return
    if empty := [clip for clip in clips.clips if not any(map(normalize, clip.references))]:
        raise ClipsError(
            f"clip list {clips.source}, task {clips.task}: {EMPTY_REFERENCE}",
            [f"clip {clip.id}: {', '.join(map(shown, clip.references))}" for clip in empty],
        )


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
        "token_loss": job.token_loss,
        "at_once": job.at_once,
        **job.runtime.recorded(),
        "libraries": {name: it for name, it in machine.libraries.items() if name not in LIBRARIES},
    }
