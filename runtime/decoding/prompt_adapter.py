"""The strength of LoRA that a prompt decides, computed once for each prompt of a model."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from ...profiles import signature as sig
from ..latency import Stopwatch
from ..session import Session

MOST_KEPT = 64  # prompts; a vector of a 7B model takes 16 kB
Floats = npt.NDArray[np.float32]


class PromptAdapter:
    """Strengths by the ids of their prompts; those that were used last are kept. Safe in many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, Floats] = OrderedDict()

    def strength(self, session: Session, ids: npt.NDArray[np.int64], watch: Stopwatch) -> Floats:
        """The strength of every output channel, (hidden_size,), from the adapter's ids (adapter,)."""
        with watch.stage("prompt"), self._lock:
            key = ids.tobytes()
            if key not in self._kept:
                self._kept[key] = _compute(session, ids)
            self._kept.move_to_end(key)
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
            return self._kept[key]


def _compute(session: Session, ids: npt.NDArray[np.int64]) -> Floats:
    strength: Floats = session.read(session.run({sig.ADAPTER_IDS: ids})[sig.LORA_SCALE])
    return strength
