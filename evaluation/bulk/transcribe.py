"""Bulk transcription: clips that have no line in the output yet are answered, and each gets one."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...profiles.codec import to_json
from ...profiles.errors import RequestError
from ...runtime.artifact.artifact import NO_TOKENIZER, Artifact, open_artifact
from ...runtime.artifact.manifest import digest_of
from ...runtime.artifact.verification import Verify
from ...runtime.choice.choose import check_choice
from ...runtime.choice.target import Auto
from ...runtime.decoding.options import ResolvedSearch
from ...runtime.environment import environment
from ..answering import hint_at_prompts
from ..answers.workers import Job
from ..clips.requests import Requests
from .engine import Engine
from .local import LocalEngine
from .options import TranscribeOptions
from .output import Output, Start, open_output
from .records import Failed, Found
from .worker import BulkJob

STEP, GO_ON = "transcribe", Start()
MOST_REASONS = 5  # that are shown at the end; all of them are in the file
Progress = Callable[[str, int, int], None]
"""Told what is being done, the clips done and the clips in all: at the start and after each clip."""
MakeEngine = Callable[[BulkJob, int], Engine]
"""From what is asked about each clip, and the number of workers."""


@dataclass
class Summary:
    """What a run has done, and what earlier ones had."""

    search: ResolvedSearch  # with all that was left out
    clips: int  # asked for
    before: int  # that had an answer already
    answered: int = 0  # by this run
    failed: int = 0  # without an answer: by this run, and before it
    audio_seconds: float = 0.0  # of the answers of this run
    seconds: float = 0.0  # that it took, from the first clip on, loading included
    reasons: list[Failed] = field(default_factory=list)  # the first failures of this run
    unshown: int = 0  # its other failures

    def count(self, found: Found) -> None:
        """A line more."""
        if isinstance(found, Failed):
            self.failed += 1
            if len(self.reasons) < MOST_REASONS:
                self.reasons.append(found)
            else:
                self.unshown += 1
        else:
            self.answered += 1
            self.audio_seconds += found.audio_seconds


def transcribe(
    artifact: Path,
    requests: Requests,
    output: Path,
    options: TranscribeOptions,
    progress: Progress = lambda *_: None,
    *,
    start: Start = GO_ON,
    verify: Verify = "cached",
    engine: MakeEngine = LocalEngine,
) -> Summary:
    """Give every clip a line in `output`, or one beside it that says why it has none.

    Args:
        artifact: its folder.
        requests: the clips, from `read_requests`.
        output: JSONL of `Transcript`; `Failed` go to `failures_of` it.
        options: how they are answered.
        progress: told how far it is.
        start: what becomes of the lines of an earlier run: by default those clips are done.
        verify: when large files of the artifact are hashed, as `open_artifact` has it.
        engine: makes what answers them.

    Raises:
        ArtifactError: missing, changed, replaced meanwhile or of another version.
        RequestError: unknown profile, no tokenizer, options out of range; or nothing to choose a
            profile by.
        JournalError: the output is of other settings, damaged, or in use.
        ClipsError: it has answers to clips of the same ids with other audio or prompts.
        OutputError: it cannot be written.
        WorkerError: a process died while it loaded the artifact.
    """
    opened = open_artifact(artifact, verify=verify)
    bulk = _job(artifact, opened, options, verify)
    hint_at_prompts(opened.manifest, requests.clips)
    with open_output(output, _settings(requests, bulk, opened), start) as lines:
        left = lines.begin(requests.clips)
        found = _summary(bulk, requests, lines)
        done, begin = len(requests.clips) - len(left), time.monotonic()
        progress(STEP, done, len(requests.clips))
        with closing(engine(bulk, options.num_workers).answers(left)) as answers:
            for each in answers:
                lines.append(each)
                found.count(each)
                done += 1
                progress(STEP, done, len(requests.clips))
        found.seconds = time.monotonic() - begin
    return found


def _job(folder: Path, artifact: Artifact, options: TranscribeOptions, verify: Verify) -> BulkJob:
    """What every clip is answered with, checked against the artifact."""
    known = tuple(artifact.manifest.profiles)
    auto = options.profile if isinstance(options.profile, Auto) else None
    profile = known[0] if options.profile is None or isinstance(options.profile, Auto) else options.profile
    if profile not in known:
        raise RequestError(f"profile {profile} is not in {folder}; it has: {', '.join(known)}")
    if not artifact.has_tokenizer:
        raise RequestError(f"artifact {folder}: {NO_TOKENIZER}")
    options.search.check_vocabulary(artifact.manifest.decoder.dims.vocab_size)
    search = options.search.resolved(artifact.manifest.generation)
    if auto is not None:
        check_choice(artifact.manifest.figures, known, auto, search.num_beams)
    runtime = options.runtime.sharing(1)
    job = Job(folder, artifact.manifest.digest, (profile,), search, runtime, verify)
    return BulkJob(job, options.system, options.segmenting, auto)


def _settings(requests: Requests, bulk: BulkJob, artifact: Artifact) -> dict[str, Any]:
    """All that an answer depends on beside its clip; threads, workers and batches change none."""
    job = bulk.job
    figures = digest_of(to_json(artifact.manifest.figures)) if bulk.auto else None
    recorded = job.runtime.recorded()
    if bulk.segmenting is None and bulk.auto is None:
        recorded.pop("max_request_bytes", None)  # by which clips fail, and no answer is another
    return {
        "artifact": job.digest,
        "profile": bulk.profile,
        "budget": bulk.auto and {**asdict(bulk.auto), "figures": figures},
        "system": bulk.system,
        "segments": None if bulk.segmenting is None else asdict(bulk.segmenting),
        "audio_root": str(requests.audio_root.absolute()),
        "search": asdict(job.search),
        **recorded,
        "libraries": dict(environment(1).libraries),
    }


def _summary(bulk: BulkJob, requests: Requests, lines: Output) -> Summary:
    ids = {clip.id for clip in requests.clips}
    before, failures = (len(ids & found.keys()) for found in (lines.answered, lines.failed))
    assert isinstance(bulk.job.search, ResolvedSearch)
    return Summary(bulk.job.search, len(ids), before, failed=failures)
