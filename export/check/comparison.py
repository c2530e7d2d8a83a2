"""A graph on several backends through Polygraphy's Comparator: one finding for each backend and input."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from polygraphy.backend.base import BaseRunner
from polygraphy.common import TensorMetadata
from polygraphy.comparator import Comparator, CompareFunc, IterationResult, RunResults
from polygraphy.logger import G_LOGGER

from ...profiles import signature as sig
from ...profiles.signature import Signature
from ...runtime.session import Session
from .cases import Feed
from .tolerance import LOGITS, Tolerance


class SessionRunner(BaseRunner):  # type: ignore[misc]  # Polygraphy has no types
    """A session of ours as Polygraphy runs it: what is checked is what production runs."""

    def __init__(
        self, name: str, session: Session, signature: Signature, ran: Callable[[], None] = lambda: None
    ) -> None:
        """Take a session; `ran` is called after each run."""
        super().__init__(name=name)
        self._session, self._signature, self._ran = session, signature, ran

    def get_input_metadata_impl(self) -> Any:
        """Names, dtypes and shapes of the inputs; a dynamic axis is None."""
        metadata = TensorMetadata()
        for spec in self._signature.inputs:
            dtype = np.dtype("float32" if spec.dtype == sig.ACTIVATION else spec.dtype)
            metadata.add(spec.name, dtype, [axis if isinstance(axis, int) else None for axis in spec.axes])
        return metadata

    def infer_impl(self, feed_dict: Feed) -> dict[str, npt.NDArray[Any]]:
        """All outputs of the signature as arrays, those of 16 bits as float32."""
        begin = time.perf_counter()
        outputs = self._session.run(feed_dict)
        found = {spec.name: self._session.read(outputs[spec.name]) for spec in self._signature.outputs}
        self.inference_time = time.perf_counter() - begin
        self._ran()
        return {name: array if array.dtype == np.int64 else _wide(array) for name, array in found.items()}


def _wide(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.astype(np.float32, copy=False)


@dataclass(frozen=True)
class Finding:
    """One backend against the reference on one input."""

    feed: int  # which one
    output: str  # where the error is largest, or an output of another shape, or one that is not finite
    error: float | None  # largest absolute difference there; None where the shapes differ
    passed: bool


def run(runners: Sequence[SessionRunner], feeds: Sequence[Feed]) -> RunResults:
    """Every runner on every input."""
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL):
        return Comparator.run(list(runners), data_loader=list(feeds))


def compare(results: RunResults, tolerances: Sequence[Tolerance]) -> list[list[Finding]]:
    """The findings of each runner but the first, which is the reference.

    Args:
        results: of `run`; their logits are put into the order of the vocabulary.
        tolerances: of each runner but the first.
    """
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL), np.errstate(invalid="ignore"):  # infinities are findings
        Comparator.postprocess(results, in_vocabulary_order)
        return [_findings(results, i + 1, tolerance) for i, tolerance in enumerate(tolerances)]


def in_vocabulary_order(result: IterationResult) -> IterationResult:
    """Ranked logits and ids become `logits` (rows, vocabulary): a swap of two near ties is no error."""
    outputs = dict(result.items())
    if sig.TOP_IDS in outputs:
        ids, ranked = outputs.pop(sig.TOP_IDS), outputs.pop(sig.TOP_LOGITS)
        logits = np.full_like(ranked, np.nan)  # stays where an id is missing
        known = (ids >= 0) & (ids < logits.shape[1])
        logits[np.nonzero(known)[0], ids[known]] = ranked[known]
        outputs = {LOGITS: logits, **outputs}
    return IterationResult(outputs, runtime=result.runtime, runner_name=result.runner_name)


def _findings(results: RunResults, runner: int, tolerance: Tolerance) -> list[Finding]:
    pair = RunResults([results[runner], results[0]])
    compare_func = CompareFunc.simple(atol=tolerance.by_output, rtol=0.0)
    ((_, iterations),) = Comparator.compare_accuracy(pair, compare_func=compare_func)[0].items()
    agree = all(map(bool, itertools.chain.from_iterable(verdicts.values() for verdicts in iterations)))
    finite = agree or Comparator.validate(pair, check_inf=True, check_nan=True)
    suspects = [()] * len(iterations) if finite else [*zip(*pair.values(), strict=True)]
    return [
        _finding(i, verdicts, both)
        for i, (verdicts, both) in enumerate(zip(iterations, suspects, strict=True))
    ]


def _finding(feed: int, verdicts: Mapping[str, Any], suspects: Sequence[IterationResult]) -> Finding:
    """The worst output: not finite in one of `suspects`, then of another shape, then the largest error."""
    for outputs in suspects:
        for name, values in outputs.items():
            if not np.isfinite(values).all():
                return Finding(feed, name, math.nan, False)
    for name, verdict in verdicts.items():
        if isinstance(verdict, bool):  # the shapes differ: nothing was measured
            return Finding(feed, name, None, verdict)
    name, worst = max(verdicts.items(), key=lambda item: (not item[1], item[1].max_absdiff))
    return Finding(feed, name, worst.max_absdiff, all(map(bool, verdicts.values())))
