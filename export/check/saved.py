"""Inputs and reference outputs in Polygraphy's own format, for its command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from polygraphy.comparator import IterationResult, RunResults
from polygraphy.json import save_json

from ...profiles import signature as sig
from ...profiles.flops import DecoderDims
from .cases import Feed
from .sessions.step_of_one import step_feed, step_results


def save_results(
    folder: Path, graph: str, feeds: Sequence[Feed], results: RunResults, of_steps: DecoderDims | None = None
) -> None:
    """Write GRAPH.inputs.json and GRAPH.outputs.json; the latter has the reference, the first of `results`.

    Those of decode steps are as graphs take them whose steps are of several requests, given `of_steps`.
    Without the ids of the best tokens: rounding may swap two near ties, and logits by rank do not mind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name, iterations = results[0]
    if of_steps:
        pairs = list(zip(iterations, feeds, strict=True))
        iterations = [_of_step(iteration, feed, of_steps) for iteration, feed in pairs]
        feeds = [step_feed(feed, of_steps) for feed in feeds]
    reference = RunResults([(name, [_without_ids(iteration) for iteration in iterations])])
    save_json([dict(feed) for feed in feeds], str(folder / f"{graph}.inputs.json"))
    reference.save(str(folder / f"{graph}.outputs.json"))


def _of_step(result: IterationResult, feed: Feed, dims: DecoderDims) -> IterationResult:
    outputs = step_results(dict(result.items()), feed, dims)
    return IterationResult(outputs, runtime=result.runtime, runner_name=result.runner_name)


def _without_ids(result: IterationResult) -> IterationResult:
    outputs = {name: values for name, values in result.items() if name != sig.TOP_IDS}
    return IterationResult(outputs, runtime=result.runtime, runner_name=result.runner_name)
