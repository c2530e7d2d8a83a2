"""The decoder of one request: a prefill session, then steps of the decode session over one cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ...profiles import signature as sig
from ...profiles.flops import DecoderDims
from ..latency import Stopwatch
from ..session import Session, Tensor
from .kv_cache import KVCache
from .search import TopTokens


class SessionDecoder:
    """One request's decoder; `cache` and `row_sources` are there once it has started."""

    cache: KVCache
    row_sources: Mapping[int, npt.NDArray[Any]]

    def __init__(
        self,
        prefill: Session,
        decode: Session,
        dims: DecoderDims,
        prompt: Mapping[str, npt.NDArray[Any]],
        watch: Stopwatch,
        request_inputs: Mapping[str, npt.NDArray[Any]],
        step_inputs: Mapping[str, npt.NDArray[Any]],
    ) -> None:
        """Set up a request.

        Args:
            prefill: session of the profile's prefill graph.
            decode: session of the decode graph.
            dims: sizes of the decoder.
            prompt: the prefill's inputs but for the number of candidates.
            watch: gets the time of the prefill and of the steps.
            request_inputs: what prefill and steps take alike.
            step_inputs: what steps take beside it.
        """
        self._prefill, self._decode, self._dims = prefill, decode, dims
        self._prompt, self._watch = {**prompt, **request_inputs}, watch
        self._fixed = {**request_inputs, **step_inputs}

    def start(self, k: int) -> TopTokens:
        """Run the prefill, once for all beams."""
        with self._watch.stage("prefill"):
            outputs = self._prefill.run({**self._prompt, sig.NUM_CANDIDATES: np.array([k])})
            top = read_top_tokens(self._prefill, outputs)
        self.row_sources = read_row_sources(self._prefill, outputs)
        self.cache = KVCache(self._decode, self._dims, outputs)
        self._watch.mark_first_token()
        return top

    def step(self, tokens: npt.NDArray[np.int64], parents: npt.NDArray[np.int64], k: int) -> TopTokens:
        """Append one row a live beam, and score what may follow it."""
        with self._watch.stage("step"):
            self.cache.compact_for(parents)
            mask = self.cache.branch(parents)
            inputs: dict[str, Tensor] = {
                sig.TOKEN_IDS: np.asarray(tokens, np.int64),
                sig.STEP: np.array([self.cache.steps]),
                sig.POOL_MASK: mask,
                sig.NUM_CANDIDATES: np.array([k]),
                **self._fixed,
            }
            outputs = self._decode.run({**inputs, **self.cache.tensors})
            self.cache.append(outputs, mask)
            self._watch.steps += 1
            return read_top_tokens(self._decode, outputs)

    def close(self) -> None:
        """Nothing: nobody waits for what a request alone holds."""


def read_top_tokens(session: Session, outputs: Mapping[str, Tensor]) -> TopTokens:
    """The scores among the outputs of a prefill or a step of one request."""
    logits, ids, total = (
        session.read(outputs[name]) for name in (sig.TOP_LOGITS, sig.TOP_IDS, sig.LOG_SUM_EXP)
    )
    told = outputs.get(sig.WORD_ATTENTION)
    return TopTokens(logits, ids, total, None if told is None else session.read(told)[0])


def read_row_sources(session: Session, outputs: Mapping[str, Tensor]) -> dict[int, npt.NDArray[Any]]:
    """By the place of each reduction where its rows come from, of a prefill that tells it."""
    told = [name for name in outputs if name.startswith(sig.ROW_SOURCES)]
    return {int(name.removeprefix(sig.ROW_SOURCES)): session.read(outputs[name]) for name in told}
