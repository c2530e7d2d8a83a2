"""Methods, schedules and FLOPs levels on the same clips: the table of contents of `compare`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ....evaluation.answers.answers import ClipAnswers
from ....evaluation.clips.clip import ClipSet
from ....evaluation.evaluation import Answered, Progress, Run, answer
from ....evaluation.figures.scores import Measurement, draw
from ....evaluation.metrics.metric import Metric
from ....evaluation.recorded import failures
from ....evaluation.results.settings import Failure
from ....profiles.profile import Profile
from ....runtime.artifact.manifest import Manifest
from ....runtime.environment import Environment
from ...checkpoint.checkpoint import Checkpoint
from ...model.families.family import load_model
from ..reference_request import ReferenceRequest, mean_request
from ..trials import ARTIFACT, FULL, build_beside_full
from .cells import CellResult, cell_result
from .grid import Row, comparison_grid
from .options import CompareOptions

GROUP = 15  # profiles that are answered together, beside `full`: each holds a session open


@dataclass(frozen=True)
class Comparison:
    """A finished comparison with all that is needed to read it."""

    checkpoint: dict[str, Any]
    clips: ClipSet
    clips_digest: str
    options: CompareOptions
    environment: Environment
    reference: ReferenceRequest
    measured: int  # clips
    failures: tuple[Failure, ...]
    full: CellResult
    rows: tuple[tuple[Row, tuple[CellResult, ...]], ...]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Those of the task; without a clip that was measured, none."""
        return tuple(entry.figure.metric for entry in self.full.figures)

    @property
    def normalizer(self) -> str:
        """The name of the text normaliser."""
        return self.options.evaluation.normalizer_for(self.clips.task)


def compare(
    checkpoint: Path,
    clips: ClipSet,
    options: CompareOptions,
    work: Path,
    progress: Progress = lambda *_: None,
) -> Comparison:
    """Build every profile of the grid, answer the clips under each, and measure the cells.

    Args:
        checkpoint: folder with config.json and safetensors.
        clips: of one task, as `read_clips` gives them.
        options: rows, columns, and how clips are answered.
        work: a folder for the artifact and for what was answered. The same call over the same folder goes on
            where an earlier one was stopped: the artifact is built again, and its digest tells whether
            it is the same.
        progress: told how far it is.

    Raises:
        CheckpointError: it is not supported, or has no tokenizer.
        ProfileError: a start layer that the model lacks.
        RequestError: no clip can be read.
        OutputError: the folder cannot be written.
        JournalError, WorkerError, ImportError: as `evaluate`.
    """
    model = load_model(source := Checkpoint(checkpoint))
    options = replace(
        options, evaluation=options.evaluation.resolved(model.generation, model.decoder.dims.vocab_size)
    )
    reference = mean_request(source, model, clips.clips, options.reference_seconds)
    rows = comparison_grid(model, options, reference)
    profiles = [profile for row in rows for cell in row.cells for profile in cell.profiles]
    manifest = build_beside_full(checkpoint, profiles, work, progress)
    groups = list(_answer(work, [profile.name for profile in profiles], clips, options, progress))
    answers = [_merged(parts) for parts in zip(*(group.answers for group in groups), strict=True)]
    full, results = _results(manifest, rows, clips, answers, options)
    return Comparison(
        {**model.identity(checkpoint), "artifact": manifest.digest},
        clips,
        groups[0].clips_digest,
        options,
        groups[0].environment,
        reference,
        sum(found.is_complete for found in answers),
        tuple(failures(zip(clips.clips, answers, strict=True))),
        full,
        tuple(zip(rows, results, strict=True)),
    )


def _answer(
    work: Path, profiles: Sequence[str], clips: ClipSet, options: CompareOptions, progress: Progress
) -> Iterator[Answered]:
    """Answer the clips under some profiles at a time; each group has a journal of its own."""
    groups = [profiles[i : i + GROUP] for i in range(0, len(profiles), GROUP)] or [()]
    for i, group in enumerate(groups):

        def tick(step: str, done: int, total: int, before: int = i) -> None:
            progress(step, before * total + done, len(groups) * total)

        settings = replace(options.evaluation, profiles=(FULL.name, *group))
        yield answer(Run(work / ARTIFACT, clips, settings, work / f"{i + 1}.journal.jsonl"), tick)


def _merged(parts: Sequence[ClipAnswers]) -> ClipAnswers:
    """One clip under all profiles. What several groups have is that of the first."""
    merged = parts[0]
    for part in parts[1:]:
        merged = replace(
            merged,
            answers={**part.answers, **merged.answers},
            failures={**part.failures, **merged.failures},
            costs={**part.costs, **merged.costs},
        )
    return merged


def _results(
    manifest: Manifest,
    rows: Sequence[Row],
    clips: ClipSet,
    answers: Sequence[ClipAnswers],
    options: CompareOptions,
) -> tuple[CellResult, list[tuple[CellResult, ...]]]:
    """The unreduced model, and every row. All cells are over the clips that all profiles have answered."""
    pairs = [(clip, found) for clip, found in zip(clips.clips, answers, strict=True) if found.is_complete]
    measured, settings = [found for _, found in pairs], options.evaluation
    drawn = draw(
        Measurement(clips.task, clips.languages, settings.normalizer, settings.bootstrap),
        [clip.references for clip, _ in pairs],
        {name: [found.answers[name].text for found in measured] for name in manifest.profiles},
    )

    def result(profiles: Sequence[Profile]) -> CellResult:
        runs = {profile.name: drawn[profile.name] for profile in profiles}
        against = None if FULL in profiles else drawn[FULL.name]
        return cell_result(manifest, runs, against, measured, timed=settings.workers == 1)

    return result([FULL]), [tuple(result(cell.profiles) for cell in row.cells) for row in rows]
