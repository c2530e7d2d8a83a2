"""Methods, schedules and FLOPs levels on the same clips: the table of contents of `compare`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import compress
from pathlib import Path
from typing import Any

from ....evaluation.answering import Answered, Progress
from ....evaluation.answers.answers import Answer, ClipAnswers
from ....evaluation.clips.clip import Clip, ClipSet
from ....evaluation.figures.scores import Drawn, Measurement, draw
from ....evaluation.figures.token_loss import token_loss
from ....evaluation.metrics.metric import Metric
from ....evaluation.recorded import failures
from ....evaluation.results.comparison import CellRecord, FormatRecord
from ....evaluation.results.settings import Failure
from ....profiles.methods import FULL
from ....runtime.environment import Environment
from ...adapt import load_adapted
from ..reference_request import ReferenceRequest, mean_request
from .cells import Runs, cell_record
from .formats import Format, Peaks, all_failures, answer_formats, build_formats, peak_memories
from .grid import FULL_CELL, Cell, Row, compact_twin, comparison_grid, in_formats
from .options import CompareOptions
from .unmet import budgets, unmet

Results = tuple[CellRecord, ...]
"""Of the cells of a row."""


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
    recordings: int  # that these are of
    timed: bool  # whether the answers of all formats have times
    failures: tuple[Failure, ...]
    formats: tuple[FormatRecord, ...]
    metrics: tuple[Metric, ...]  # those of the task; without a clip that was measured, none
    full: CellRecord  # in the first format
    rows: tuple[tuple[Row, Results], ...]  # of all formats, and the full model in the others

    @property
    def reduced(self) -> tuple[tuple[Row, Results], ...]:
        """The rows of methods."""
        return tuple((row, results) for row, results in self.rows if not row.is_full)

    @property
    def full_name(self) -> str:
        """What people call the full model in the first format."""
        return Row(FULL, "", (FULL_CELL,), self.formats[0].quantized).label

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
    """Build every profile of the grid in each format, answer the clips under each, and measure the cells.

    Of several formats the memory of a process for each cell is measured, too.

    Args:
        checkpoint: folder with config.json and safetensors.
        clips: of one task, as `read_clips` gives them.
        options: rows, columns, and how clips are answered.
        work: a folder for the artifacts and for what was answered. The same call over the same folder goes on
            where an earlier one was stopped: the artifacts are built again, and their digests tell whether
            they are the same.
        progress: told how far it is.

    Raises:
        CheckpointError: it is not supported, or has no tokenizer.
        ProfileError: a start layer that the model lacks.
        RequestError: no clip can be read.
        OutputError: the folder cannot be written.
        JournalError, WorkerError, ImportError: as `evaluate`.
    """
    source, model = load_adapted(checkpoint, options.lora)
    options = replace(
        options, evaluation=options.evaluation.resolved(model.generation, model.decoder.dims.vocab_size)
    )
    reference = mean_request(source, model, clips.clips, options.reference_seconds)
    grid = comparison_grid(model, options, reference)
    profiles = [profile for row in grid for cell in row.cells for profile in cell.profiles]
    formats = build_formats(checkpoint, profiles, options.quantize, options.lora, work, progress)
    names = [profile.name for profile in profiles]
    answered = answer_formats(formats, names, clips, options.evaluation, work, progress)
    failed = tuple(all_failures(formats, answered))
    complete = tuple(each.is_complete for each in failed)
    rows = tuple(in_formats(grid, options.quantize))
    longest = _longest(clips.clips, answered[0].answers, complete)
    peaks = peak_memories(formats, rows, longest, options.evaluation, progress)
    measuring = _Measuring(clips, options, formats, answered, complete, peaks)
    measured = [(row, measuring.row(row, compact_twin(row, rows))) for row in rows]
    return Comparison(
        model.identity(checkpoint),
        clips,
        answered[0].clips_digest,
        options,
        answered[0].environment,
        reference,
        sum(complete),
        len({*compress(clips.recordings, complete)}),
        measuring.timed,
        tuple(failures(zip(clips.clips, failed, strict=True))),
        tuple(each.record for each in formats),
        measuring.metrics,
        measuring.cell(formats[0].quantized, FULL_CELL),
        tuple((row, _with_reasons(row, results, measured)) for row, results in measured),
    )


def _with_reasons(row: Row, results: Results, rows: Iterable[tuple[Row, Results]]) -> Results:
    """The cells of a row with why they miss their levels."""
    cells = zip(row.cells, results, budgets(row, rows), strict=True)
    return tuple(replace(result, unmet=unmet(row, cell, result, budget)) for cell, result, budget in cells)


def _longest(clips: Sequence[Clip], answers: Sequence[ClipAnswers], complete: Sequence[bool]) -> Clip | None:
    """The clip with the most rows of audio, of those that count; None where none does."""
    pairs = compress(zip(clips, answers, strict=True), complete)
    found = max(pairs, key=lambda pair: pair[1].audio_rows or 0, default=None)
    return None if found is None else found[0]


@dataclass(frozen=True)
class _Measuring:
    """Answers of all formats; all cells are over the clips that every profile has answered in each."""

    clips: ClipSet
    options: CompareOptions
    formats: tuple[Format, ...]
    answered: tuple[Answered, ...]  # of each format
    complete: tuple[bool, ...]  # clips
    peaks: Peaks  # empty where memory is not measured

    @property
    def timed(self) -> bool:
        """Whether times can be compared."""
        return all(found.timed for found in self.answered)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Those of the task; without a clip that was measured, none."""
        return tuple(sample.metric for sample, _ in self._drawn[self.formats[0].quantized][FULL])

    def row(self, row: Row, twin: Row | None) -> Results:
        """What all cells of a row hold; `twin` is the one that it is compared with beside the full model."""
        twins = twin.cells if twin else [None] * len(row.cells)
        return tuple(
            self.cell(row.quantized, cell, compact) for cell, compact in zip(row.cells, twins, strict=True)
        )

    def cell(self, quantized: str | None, cell: Cell, compact: Cell | None = None) -> CellRecord:
        """What one cell holds; `compact` is the one beside it, if there is one."""
        drawn = self._drawn[quantized]
        original = self._drawn.get(None) if quantized else None
        found = cell_record(
            cell,
            self.formats[self._place[quantized]].manifest,
            _of(cell, drawn),
            None if cell == FULL_CELL else drawn[FULL],
            self._measured[quantized],
            timed=self.timed,
            float32=_of(cell, original) if original else {},
            compact=_of(compact, drawn) if compact else {},
        )
        peaks = (self.peaks.get((quantized, profile)) for profile in found.profiles)
        return replace(found, peak_bytes=next(peaks, None))

    @cached_property
    def _place(self) -> dict[str | None, int]:
        return {each.quantized: i for i, each in enumerate(self.formats)}

    @cached_property
    def _measured(self) -> dict[str | None, list[ClipAnswers]]:
        """The answers that count, by format."""
        return {
            each.quantized: list(compress(found.answers, self.complete))
            for each, found in zip(self.formats, self.answered, strict=True)
        }

    @cached_property
    def _drawn(self) -> dict[str | None, dict[str, tuple[Drawn, ...]]]:
        """Figures of each profile over the same resamples, by format."""
        settings, clips = self.options.evaluation, self.clips
        measurement = Measurement(clips.task, clips.languages, settings.normalizer, settings.bootstrap)
        references = [clip.references for clip in compress(clips.clips, self.complete)]
        recordings = list(compress(clips.recordings, self.complete))
        return {
            each.quantized: draw(
                measurement,
                references,
                {name: [answer.text for answer in answers] for name, answers in by_profile.items()},
                recordings,
                {name: token_loss(answers) for name, answers in by_profile.items()},
            )
            for each in self.formats
            if (by_profile := self._by_profile(each))
        }

    def _by_profile(self, found: Format) -> dict[str, list[Answer]]:
        """The answers that count, in one format."""
        measured = self._measured[found.quantized]
        return {name: [each.answers[name] for each in measured] for name in found.manifest.profiles}


def _of(cell: Cell, drawn: Runs) -> Runs:
    """The figures of its profiles."""
    return {profile.name: drawn[profile.name] for profile in cell.profiles}
