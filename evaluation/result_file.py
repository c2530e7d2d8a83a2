"""An evaluation as JSON: figures, failures, and every clip with its answers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from .answers.answers import ClipAnswers
from .clips.clip import Clip
from .evaluation import Evaluation, Failure
from .figures.bootstrap import Interval
from .figures.profile_scores import ProfileScores
from .figures.scores import Figure

FORMAT_VERSION = 1
KIND = "eval"
METHOD = (
    "bootstrap over clips: 95 % percentile intervals; deltas from the first profile on the same resamples; "
    "two-sided p-values from resamples that are centred on no difference"
)


def evaluation_to_json(evaluation: Evaluation) -> dict[str, Any]:
    """As JSON takes it. But for `environment`, equal answers give equal bytes."""
    clips = evaluation.clips
    return {
        "format_version": FORMAT_VERSION,
        "kind": KIND,
        "task": clips.task,
        "artifact": evaluation.artifact,
        "clips": {
            "source": str(clips.source),
            "digest": evaluation.clips_digest,
            "count": len(clips.clips),
            "measured": len(evaluation.measured),
        },
        "options": _options(evaluation),
        "metrics": {figure.metric.name: asdict(figure.metric) for figure in evaluation.profiles[0].figures},
        "profiles": [_scores(scores) for scores in evaluation.profiles],
        "failures": [_failure(failure) for failure in evaluation.failures],
        "records": [_record(clip, found) for clip, found in evaluation.records],
        "environment": evaluation.environment,
    }


def _options(evaluation: Evaluation) -> dict[str, Any]:
    """All but workers and threads, which the environment holds: no answer depends on them."""
    options = evaluation.options
    return {
        "profiles": [scores.profile for scores in evaluation.profiles],
        "search": asdict(options.search),
        **options.runtime.recorded(),
        "normalizer": evaluation.normalizer,
        "resamples": options.resamples,
        "seed": options.seed,
        "method": METHOD,
    }


def _scores(scores: ProfileScores) -> dict[str, Any]:
    return {
        "profile": scores.profile,
        "kept_ratio": scores.kept_ratio,
        "flops_reduction": scores.flops_reduction,
        "cut_off": scores.cut_off,
        "metrics": {figure.metric.name: _figure(figure) for figure in scores.figures},
    }


def _figure(figure: Figure) -> dict[str, Any]:
    change = figure.delta
    return {
        "value": figure.value,
        "interval": _pair(figure.interval),
        "delta": None if change is None else change.value,
        "delta_interval": None if change is None else _pair(change.interval),
        "p_value": None if change is None else change.p_value,
        "reason": figure.reason or None,
    }


def _pair(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]


def _failure(failure: Failure) -> dict[str, Any]:
    clip = failure.clip
    return {"id": clip.id, "line": clip.line, "profile": failure.profile, "reason": failure.reason}


def _record(clip: Clip, found: ClipAnswers) -> dict[str, Any]:
    entry = {
        "id": clip.id,
        "line": clip.line,
        "audio": clip.audio,
        "language": clip.language,
        "prompt": clip.prompt,
        "references": list(clip.references),
        "measured": found.is_complete,
    }
    left_out = "clip_id", "costs"  # an id is there already, and times differ from run to run
    return entry | {name: value for name, value in found.to_json().items() if name not in left_out}
