"""An evaluation as its result file holds it: figures, failures, and every clip with its answers."""

from __future__ import annotations

from .answers.answers import ClipAnswers
from .clips.clip import Clip
from .evaluation import Evaluation
from .recorded import answer_settings, clip_list, failures, intervals, profile_figures
from .results.evaluation import ClipRecord, EvaluationResult
from .results.settings import ClipList


def evaluation_result(evaluation: Evaluation) -> EvaluationResult:
    """The record. But for its environment, equal answers give equal ones."""
    clips, options = evaluation.clips, evaluation.options
    metrics = tuple(figure.metric for figure in evaluation.profiles[0].figures)
    return EvaluationResult(
        task=clips.task,
        artifact=evaluation.artifact,
        clips=measured_clips(evaluation),
        longest_seconds=evaluation.longest_seconds,
        settings=answer_settings(options, clips.task),
        intervals=intervals(options.bootstrap),
        metrics=metrics,
        max_loss=options.max_loss / metrics[0].scale if options.max_loss is not None and metrics else None,
        least_recordings=options.least_recordings,
        profiles=tuple(map(profile_figures, evaluation.profiles)),
        failures=tuple(failures(evaluation.records)),
        records=tuple(_record(clip, found) for clip, found in evaluation.records),
        environment=evaluation.environment,
    )


def measured_clips(evaluation: Evaluation) -> ClipList:
    """The clips of an evaluation, with how many all profiles have answered."""
    return clip_list(
        evaluation.clips, evaluation.clips_digest, len(evaluation.measured), evaluation.recordings
    )


def _record(clip: Clip, found: ClipAnswers) -> ClipRecord:
    """What a clip gave but for its times, which differ from run to run."""
    return ClipRecord(
        id=clip.id,
        line=clip.line,
        audio=clip.audio,
        language=clip.language,
        prompt=clip.prompt,
        references=clip.references,
        measured=found.is_complete,
        audio_rows=found.audio_rows,
        text_rows=found.text_rows,
        answers=found.answers,
        failures=found.failures,
    )
