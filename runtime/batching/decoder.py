"""Decoders of requests that share decode steps, behind the protocol of a decoder that is alone."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ...profiles import signature as sig
from ...profiles.flops import DecoderDims
from ...profiles.kv_layout import rows_of
from ..decoding.answer_sizes import AnswerSizes
from ..decoding.search import TopTokens
from ..decoding.session_decoder import read_row_sources, read_top_tokens
from ..latency import Stopwatch
from ..session import Session, StepSession
from .batch import Batch, Member
from .classes import Key, key_of
from .shared_steps import SharedSteps
from .turns import Turns

Array = npt.NDArray[Any]
Ids = npt.NDArray[np.int64]


class Batcher:
    """The batches of a model, by what their members have in common; safe in many threads."""

    def __init__(self, session: StepSession, dims: DecoderDims, max_batch: int) -> None:
        """Of a decode session whose steps take several requests, `max_batch` of them at most."""
        self._session, self._dims, self._most = session, dims, max_batch
        self.turns = Turns()
        self._lock = threading.Lock()
        self._batches: dict[Key, list[SharedSteps]] = {}

    def join(
        self, outputs: Mapping[str, Any], sizes: AnswerSizes | None, fixed: Mapping[str, Array]
    ) -> tuple[SharedSteps, Member]:
        """Take the prefix that a prefill left into a batch. Only in a turn.

        Args:
            outputs: of the prefill.
            sizes: of the answer; None for a request that shares no steps.
            fixed: inputs of its steps.
        """
        layers = range(self._dims.num_layers)
        names = (name(i) for i in layers for name in (sig.prefix_key, sig.prefix_value))
        prefix = {name: self._session.prefix(outputs[name]) for name in names}
        longest = max(rows_of(prefix[sig.prefix_key(i)].shape) for i in layers)
        with self._lock:
            shared = self._batch_for(longest, sizes, fixed)
            return shared, shared.join(prefix)

    def _batch_for(self, rows: int, sizes: AnswerSizes | None, fixed: Mapping[str, Array]) -> SharedSteps:
        """One with room for one more; a new one if there is none."""
        turns = Turns() if sizes is None else self.turns  # who is alone waits for nobody
        shared = SharedSteps(Batch(self._session, self._dims, fixed), turns)
        if sizes is None or self._most == 1:
            return shared
        key = key_of(rows, sizes, fixed)
        living = {each: [b for b in batches if len(b)] for each, batches in self._batches.items()}
        self._batches = {each: batches for each, batches in living.items() if batches}
        batches = self._batches.setdefault(key, [])
        if roomy := [each for each in batches if len(each) < self._most]:
            return roomy[0]
        batches.append(shared)
        return shared


class BatchedDecoder:
    """One request's decoder. Once it has started, it has `cache` and `row_sources`, and until its end a row
    of a batch.
    """

    cache: Member
    row_sources: Mapping[int, Array]

    def __init__(
        self,
        prefill: Session,
        batcher: Batcher,
        prompt: Mapping[str, npt.NDArray[Any]],
        watch: Stopwatch,
        sizes: AnswerSizes | None,
        request_inputs: Mapping[str, npt.NDArray[Any]],
        step_inputs: Mapping[str, npt.NDArray[Any]],
    ) -> None:
        """Set up a request.

        Args:
            prefill: session of the profile's prefill graph.
            batcher: whose steps it shares.
            prompt: the prefill's inputs but for the number of candidates.
            watch: gets the time of the prefill and of the steps, with what it waits for others.
            sizes: of the answer; None for a request that shares no steps.
            request_inputs: what prefill and steps take alike.
            step_inputs: what steps take beside it.
        """
        self._prefill, self._batcher, self._sizes = prefill, batcher, sizes
        self._prompt, self._watch = {**prompt, **request_inputs}, watch
        self._fixed = {**request_inputs, **step_inputs}
        self._leave: weakref.finalize[..., BatchedDecoder] | None = None

    def start(self, k: int) -> TopTokens:
        """Run the prefill, once for all beams."""
        turns = Turns() if self._sizes is None else self._batcher.turns
        with self._watch.stage("prefill"), turns.take("prefill"):
            outputs = self._prefill.run({**self._prompt, sig.NUM_CANDIDATES: np.array([k])})
            top = read_top_tokens(self._prefill, outputs)
            self.row_sources = read_row_sources(self._prefill, outputs)
            self._steps, self.cache = self._batcher.join(outputs, self._sizes, self._fixed)
            self._leave = weakref.finalize(self, self._steps.leave, self.cache)
        self._watch.mark_first_token()
        return top

    def step(self, tokens: Ids, parents: Ids, k: int) -> TopTokens:
        """Append one row a live beam, and score what may follow it."""
        with self._watch.stage("step"):
            top = self._steps.step(self.cache, np.asarray(tokens, np.int64), parents, k)
            self._watch.steps += 1
            return top

    def close(self) -> None:
        """Leave the batch, as a decoder does that nobody holds any more. Again: nothing."""
        if self._leave:
            self._leave()
