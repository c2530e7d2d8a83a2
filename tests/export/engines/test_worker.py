"""The process that builds an engine brings nothing along by which two builds could differ."""

from __future__ import annotations

import subprocess
import sys

import pytest

LIST_MODULES = "import sys, fastadasp.export.engines.worker; print(*sys.modules)"


@pytest.mark.parametrize("library", ["tokenizers", "safetensors", "blake3"])
def test_no_library_with_hash_maps_of_random_order_shares_the_heap_of_a_build(library):
    """Extensions in Rust free what such a map held in another order each time: memory then lies otherwise."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", LIST_MODULES], capture_output=True, text=True, check=True
    )
    assert "fastadasp.export.engines.messages" in done.stdout.split()
    assert library not in done.stdout.split()
