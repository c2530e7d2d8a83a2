"""Public files and samples that lie beside the clone and are no part of it; without them tests skip."""

from __future__ import annotations

import os
from pathlib import Path

SHARED = Path(os.environ.get("FASTADASP_SHARED", Path(__file__).parents[2] / "shared"))
REAL_FILES, FAULTS = SHARED / "real_files", SHARED / "faults"
