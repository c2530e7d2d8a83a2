"""What result files say of an artifact: losses in points whichever way a metric points, or why nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastadasp.evaluation.gate.taken import accuracy_of, latency_of
from fastadasp.evaluation.metrics.metric import POINTS, Metric
from fastadasp.evaluation.results.evaluation import EvaluationResult
from fastadasp.evaluation.results.figures import Difference, Measured, ProfileFigures
from fastadasp.evaluation.results.files import ResultFile
from fastadasp.profiles.errors import ResultsError
from fastadasp.profiles.profile import profile_to_toml
from fastadasp.runtime.artifact.artifact import open_artifact
from fastadasp.runtime.artifact.manifest import Manifest
from fastadasp.runtime.benchmark.records import Benchmark, BenchmarkProtocol, Case, Spread
from fastadasp.runtime.choice.figures import Loss, Machine, Timed

from ..report import examples

WER = Metric("wer", "WER", lower_is_better=True)
BLEU = Metric("bleu", "BLEU", POINTS)
CLIPS = replace(
    examples.CLIPS, source="/home/somebody/clips.jsonl", count=2618, measured=2618, recordings=400
)


@pytest.fixture(scope="module")
def manifest(tiny_artifact: Path) -> Manifest:
    return open_artifact(tiny_artifact).manifest


def evaluation(manifest: Manifest, metric: Metric = WER, **others: Any) -> EvaluationResult:
    """`own-30` against `full`: two hundredths more, between one less and five more."""
    delta = Difference(0.02, -0.01, 0.05, 0.5)
    profiles = (
        ProfileFigures("full", {metric.name: Measured(0.1, 0.05, 0.2)}, 1.0, 0.0, 0),
        ProfileFigures("own-30", {metric.name: Measured(0.12, 0.06, 0.2, delta)}, 0.5, 0.4, 0),
    )
    found = EvaluationResult(
        task="asr",
        artifact={"digest": manifest.digest},
        clips=CLIPS,
        longest_seconds=30.0,
        settings=examples.SETTINGS,
        intervals=examples.INTERVALS,
        metrics=(metric,),
        max_loss=0.03,
        least_recordings=30,
        profiles=profiles,
        failures=(),
        records=(),
        environment=examples.ENVIRONMENT,
    )
    return replace(found, **others)


def benchmark(manifest: Manifest, **others: Any) -> Benchmark:
    sizes = ("full", "own-30"), (1, 5), (10.0,), None, None, 32, 5, 1, 2, "noise", "process"
    figures = {"decoder_ms": Spread(10.0, 9.0, 11.0)}
    cases = (
        Case(5, 10.0, "full", 5, None, figures),
        Case(1, 10.0, "full", 5, None, figures),
        Case(1, 600.0, "full", skipped="too long"),
        Case(1, 10.0, "own-30", 5, None, {"decoder_ms": None}),
    )
    artifact = {"digest": manifest.digest, "device": "a GPU"}
    found = Benchmark(artifact, BenchmarkProtocol(*sizes), examples.ENVIRONMENT, cases)
    return replace(found, **others)


def file(found: Any, name: str = "file.json") -> ResultFile[Any]:
    return ResultFile(name, found, None)


@pytest.mark.parametrize(
    ("metric", "loss"),
    [(WER, Loss(2.0, -1.0, 5.0, 3.0)), (BLEU, Loss(-0.02, -0.05, 0.01, 0.03))],
    ids=["lower is better", "higher is better"],
)
def test_a_loss_is_in_points_and_above_0_where_it_is_worse(
    manifest: Manifest, metric: Metric, loss: Loss
) -> None:
    found = accuracy_of(manifest, [file(evaluation(manifest, metric))], 30)
    (measured,) = found.losses.values()
    for name in ("value", "low", "high", "budget"):
        assert getattr(measured, name) == pytest.approx(getattr(loss, name))
    assert (found.metric, found.against, found.clips.name) == (metric.title, "full", "clips.jsonl")
    assert (found.clips.count, found.clips.recordings) == (2618, 400)
    assert found.clips.in_words == "2618 clips of 400 recordings of up to 30.0 s of clips.jsonl"


def test_times_are_those_of_prefill_and_decode_that_were_measured(manifest: Manifest) -> None:
    found = latency_of(manifest, file(benchmark(manifest)))
    assert found.times == {"full": (Timed(1, 10.0, 10.0), Timed(5, 10.0, 10.0))}
    environment = examples.ENVIRONMENT
    assert found.machine == Machine("a GPU", environment.cpu, environment.threads)
    assert found.new_tokens == 32


UNMEASURED, FAILED = replace(CLIPS, measured=0), replace(CLIPS, measured=2616)
ROUGH = replace(examples.INTERVALS, resamples=99)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda found: replace(found, artifact={}), "it measured another artifact"),
        (lambda found: replace(found, max_loss=None), "it has no budget; evaluate with --max-loss"),
        (lambda found: replace(found, metrics=()), "no clip was answered under every profile"),
        (lambda found: replace(found, clips=UNMEASURED), "no clip was answered under every profile"),
        (lambda found: replace(found, clips=FAILED), "2 of 2618 clips failed"),
        (lambda found: replace(found, intervals=ROUGH), "an interval of 99 resamples is too rough"),
        (
            lambda found: replace(
                found, profiles=(replace(found.profiles[0], cut_off=262), found.profiles[1])
            ),
            "it cannot tell what profiles lose, for 262 of 2618 answers of full were cut off",
        ),
        (
            lambda found: replace(
                found, profiles=(found.profiles[0], replace(found.profiles[1], figures={}))
            ),
            "profile own-30 has no figure of WER",
        ),
    ],
)
def test_an_evaluation_that_says_nothing_is_named(
    manifest: Manifest, change: Callable[[EvaluationResult], EvaluationResult], fault: str
) -> None:
    with pytest.raises(ResultsError) as caught:
        accuracy_of(manifest, [file(change(evaluation(manifest)), "broken.json")], 30)
    (found,) = caught.value.faults
    assert found.startswith(f"broken.json: {fault}")


def test_a_tuning_whose_full_model_hardly_answers_is_named(manifest: Manifest) -> None:
    tuned = examples.tuning()
    assert tuned.held_out is not None
    full, chosen = tuned.held_out.profiles
    empty = replace(full, figures={"accuracy": Measured(0.0)})
    found = replace(
        tuned,
        checkpoint={"shared": [manifest.shared_digest(target) for target in manifest.graphs]},
        profile=profile_to_toml(manifest.profiles["own-30"].profile),
        held_out=replace(tuned.held_out, profiles=(empty, chosen)),
    )
    with pytest.raises(ResultsError, match=r"full itself, with Accuracy 0\.00 %, is no better than empty"):
        accuracy_of(manifest, [file(found)], 30)


def test_a_tuning_of_another_model_is_named(manifest: Manifest) -> None:
    for shared in (None, 5, ["0" * 64], [[]]):
        tuned = replace(examples.tuning(), checkpoint={"shared": shared})
        with pytest.raises(ResultsError, match="it tuned another model"):
            accuracy_of(manifest, [file(tuned)], 30)
    undecided = replace(examples.tuning(), profile=None, held_out=None, reason="nothing is within the budget")
    with pytest.raises(ResultsError, match=r"it chose no profile \(nothing is within the budget\)"):
        accuracy_of(manifest, [file(undecided)], 30)


def test_a_tuning_that_confirmed_no_profile_is_named_as_one(manifest: Manifest) -> None:
    tuned = examples.tuning()
    assert tuned.held_out is not None
    ours = {"shared": [manifest.shared_digest(target) for target in manifest.graphs]}
    refused = replace(tuned, checkpoint=ours, held_out=replace(tuned.held_out, within_budget=False))
    with pytest.raises(ResultsError, match="did not confirm its profile, so tune wrote none; tune again"):
        accuracy_of(manifest, [file(refused)], 30)


def test_a_benchmark_that_says_nothing_is_named(manifest: Manifest) -> None:
    for found, fault in (
        (benchmark(manifest, artifact={"device": "a GPU"}), "it measured another artifact"),
        (benchmark(manifest, results=()), "every length of audio was skipped"),
        (
            benchmark(manifest, results=(Case(1, 10.0, "full", 4, None, {"decoder_ms": Spread(10.0)}),)),
            "bench was stopped before all its rounds were done",
        ),
        (evaluation(manifest), "it holds no times of single requests; give a file of bench"),
    ):
        with pytest.raises(ResultsError, match=fault):
            latency_of(manifest, file(found))
