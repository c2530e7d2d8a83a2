"""Finalists and `full` timed side by side, once: a tuning that was stopped goes on with the same times."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from ....evaluation.answering import Progress
from ....evaluation.evaluation import Evaluation
from ....profiles.codec import from_json, to_json
from ....profiles.errors import RequestError
from ....profiles.json_text import read_object
from ....profiles.methods import FULL
from ....runtime.artifact.artifact import open_artifact
from ....runtime.benchmark.benchmark import run_benchmark
from ....runtime.benchmark.options import BenchmarkOptions
from ....runtime.benchmark.records import Benchmark, Spread
from ....runtime.speech_lm import SpeechLM
from ..trials import Trials
from .options import TuneOptions

FILE = "timing.json"
FIGURE = "decoder_ms"  # of the benchmark: prefill and decode


@dataclass(frozen=True)
class Timing:
    """What the benchmark gave."""

    benchmark: Benchmark

    @property
    def spreads(self) -> dict[str, Spread]:
        """Prefill and decode in milliseconds, by profile."""
        found = {case.profile: (case.figures or {}).get(FIGURE) for case in self.benchmark.results}
        return {profile: spread for profile, spread in found.items() if spread is not None}

    def median(self, profile: str) -> float:
        """The median of one."""
        return self.spreads[profile].median


def time_finalists(
    trials: Trials,
    names: Sequence[str],
    measured: Evaluation,
    seconds: float,
    options: TuneOptions,
    progress: Progress,
) -> Timing:
    """Run the finalists and `full` in turns, as `bench` does.

    Args:
        trials: the artifact, and where times are kept.
        names: the finalists.
        measured: an evaluation, which tells how long answers are, and has a clip to repeat.
        seconds: of audio.
        options: runs, warm-up, search.
        progress: called before each run.

    Raises:
        RequestError: the model cannot take this audio.
    """
    bench = _options(names, measured, seconds, options)
    settings = json.loads(json.dumps([trials.content, asdict(bench)], default=str))
    path = trials.folder / FILE
    if (kept := _kept(path, settings)) is not None:
        return Timing(kept)
    model = SpeechLM(open_artifact(trials.artifact), FULL, options.evaluation.runtime)
    benchmark = run_benchmark(model, bench, _named(progress))
    if reasons := [case.skipped for case in benchmark.results if case.skipped is not None]:
        raise RequestError(f"finalists cannot be timed: {reasons[0]}")
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps({"settings": settings, "benchmark": to_json(benchmark)}), "utf-8")
    scratch.replace(path)
    return Timing(benchmark)


def _options(
    names: Sequence[str], measured: Evaluation, seconds: float, options: TuneOptions
) -> BenchmarkOptions:
    clip, search = measured.measured[0], measured.options.search.resolved()
    lengths = [found.answers[FULL].output_tokens for found in measured.answers if found.is_complete]
    return BenchmarkOptions(
        profiles=(FULL, *names),
        beams=(search.num_beams,),
        audio_seconds=(seconds,),
        clip=clip.path,
        prompt=clip.prompt or None,
        new_tokens=max(1, round(fmean(lengths))),
        runs=options.runs,
        warmup=options.warmup,
        threads=options.evaluation.runtime.threads,
    )


def _kept(path: Path, settings: object) -> Benchmark | None:
    """The benchmark of an earlier run with the same settings; what cannot be read is measured anew."""
    try:
        content = read_object(path.read_bytes(), lenient=True)
        return from_json(Benchmark, content["benchmark"]) if content["settings"] == settings else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _named(progress: Progress) -> Progress:
    return lambda _, done, total: progress("time finalists", done, total)
