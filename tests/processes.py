"""Whether a process of Linux still runs."""

from __future__ import annotations

import os
from pathlib import Path


def is_alive(process: int) -> bool:
    """Whether it runs; one that has ended may stay in the table until its new parent has seen it."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
    return "State:\tZ" not in status and os.getpid() != process
