"""A decoder over sessions: what a step is told does not depend on what the caller measures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from fastadasp.profiles import signature as sig
from fastadasp.runtime.decoding.session_decoder import SessionDecoder
from fastadasp.runtime.latency import Stopwatch


class Graph:
    """One without layers, which remembers the places that its steps were told."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def run(self, inputs: Any) -> dict[str, Any]:
        if sig.STEP in inputs:
            self.steps += inputs[sig.STEP].tolist()
        return dict.fromkeys((sig.TOP_LOGITS, sig.TOP_IDS, sig.LOG_SUM_EXP), np.zeros((1, 1)))

    def read(self, tensor: Any) -> Any:
        return tensor


def test_decoders_that_share_a_stopwatch_count_steps_of_their_own() -> None:
    graph, watch, row = Graph(), Stopwatch(), np.zeros(1, np.int64)
    dims = cast("Any", SimpleNamespace(num_layers=0, num_kv_heads=1, head_dim=2))
    session = cast("Any", graph)
    one, other = (SessionDecoder(session, session, dims, {}, watch, {}, {}) for _ in range(2))
    for decoder in (one, other):
        decoder.start(1)
    for decoder in (one, one, other, one, other):
        decoder.step(row, row, 1)
    assert graph.steps == [0, 1, 0, 2, 1]
    assert watch.steps == 5
