"""How the weights get into an artifact: bytes and seconds of each way, and whether it survives a move.

python bench/weights.py CHECKPOINT...
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from compare import SIZES
from random_checkpoint import write_checkpoint
from rich.console import Console
from rich.table import Table

from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import load_profile
from fastadasp.runtime import SpeechLM

DEMO = Path(__file__).parent.parent / "demo" / "model"
PROFILES = ("full", "dense-constant-50")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoints", type=Path, nargs="*")
    checkpoints = parser.parse_args().checkpoints
    heads = ("checkpoint", "--weights", "became", "build s", "new MB on disk", "after a move")
    table = Table(*heads, box=None)
    with tempfile.TemporaryDirectory() as scratch:
        for checkpoint in checkpoints or _defaults(Path(scratch)):
            for mode in ("link", "copy"):
                table.add_row(checkpoint.name, mode, *measure(checkpoint, mode))
    Console(width=100).print(table)


def _defaults(folder: Path) -> list[Path]:
    """Copies, so that links and copies are made beside them."""
    shutil.copytree(DEMO, folder / "demo-float16")
    write_checkpoint(folder / "random-float32", SIZES)
    return [folder / "demo-float16", folder / "random-float32"]


def measure(checkpoint: Path, mode: str) -> tuple[str, ...]:
    """Build, copy the artifact to another folder, drop the first one, load and verify the copy whole."""
    with tempfile.TemporaryDirectory(dir=checkpoint.parent) as scratch:
        first, moved = Path(scratch) / "artifact", Path(scratch) / "moved"
        free = shutil.disk_usage(scratch).free
        begin = time.perf_counter()
        profiles = tuple(load_profile(name) for name in PROFILES)
        manifest = build(checkpoint, first, BuildOptions(profiles, weights=mode))
        seconds = time.perf_counter() - begin
        written = free - shutil.disk_usage(scratch).free
        shutil.copytree(first, moved)
        shutil.rmtree(first)
        SpeechLM.load(moved, verify=True)
        origins = ", ".join(manifest.weight_origins)
        return origins, f"{seconds:.2f}", f"{written / 1e6:.1f}", "loads, hashes match"


if __name__ == "__main__":
    main()
