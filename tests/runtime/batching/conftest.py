"""What tests of shared steps look at."""

from __future__ import annotations

from typing import Any

import pytest

from fastadasp.runtime.batching import shared_steps
from fastadasp.runtime.batching.batch import Batch


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many requests each step had, as the steps ran."""
    sizes: list[int] = []
    step = Batch.step

    def counted(batch: Batch, asked: Any) -> Any:
        sizes.append(len(asked))
        return step(batch, asked)

    monkeypatch.setattr(Batch, "step", counted)
    return sizes


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine makes no member late."""
    monkeypatch.setattr(shared_steps, "GATHER", 2.0)
