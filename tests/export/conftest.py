"""What the tests of the exporter share."""

from __future__ import annotations

import pytest
import torch

from fastadasp.export.commands import progress


@pytest.fixture(autouse=True)
def _no_lines_of_progress(monkeypatch):
    """How slow a machine is must not change what a command prints."""
    monkeypatch.setattr(progress, "EVERY", 3600.0)


@pytest.fixture(scope="module")
def one_thread():
    """Torch on one thread: its results do not depend on the cores of the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
