"""Requests that are there together before they are decoded, however late one is submitted."""

from __future__ import annotations

import itertools
import threading
from contextlib import AbstractContextManager

import pytest

from fastadasp.runtime import SpeechLM
from fastadasp.runtime.batching.turns import Kind

LONG_WAIT = 60.0  # seconds, for what takes milliseconds


def meet(monkeypatch: pytest.MonkeyPatch, model: SpeechLM, number: int) -> None:
    """From now on the first so many prefills begin once so many requests are there."""
    assert model._loaded.batcher is not None
    turns = model._loaded.batcher.turns
    take, there, numbers = turns.take, threading.Barrier(number), itertools.count()

    def met(kind: Kind) -> AbstractContextManager[None]:
        if kind == "prefill" and next(numbers) < number:
            there.wait(LONG_WAIT)
        return take(kind)

    monkeypatch.setattr(turns, "take", met)
