"""Measure what int8 and int4 come to on CPUs without VNNI, which are emulated (docs/quantization.md).

    apt-get install qemu-user
    python bench/without_vnni.py -o bench/results/without_vnni.json

The demo model hears a clip and answers, on this CPU and on emulated ones; the error is that of its audio
rows, root mean square, relative to that of the rows in float32 on this CPU. Weights of int8 are taken as they
are, whose sums such CPUs cut off, and as uint8, as the runtime does there. Emulation says nothing of time.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import load_profile
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.environment import environment
from fastadasp.runtime.onnxruntime import int8_sums

ROOT = Path(__file__).parent.parent
CLIP, PROMPT = ROOT / "demo/clips/dates-01.flac", "<asr>"
EMULATOR = "qemu-x86_64"
CPUS = ("Haswell", "EPYC-Rome")  # as the emulator names them: AVX2, no VNNI
FORMATS = None, "int8", "int4"  # None: float32
AS_UINT8 = "--weights-as-uint8"

Row = dict[str, str | float | bool]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "build/without_vnni.json")
    parser.add_argument("--hear", type=Path, nargs=2, metavar=("ARTIFACT", "FILE"), help=argparse.SUPPRESS)
    parser.add_argument(AS_UINT8, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.hear:
        hear(*options.hear, as_uint8=options.weights_as_uint8)
        return
    if not shutil.which(EMULATOR):
        parser.error(f"{EMULATOR} is not installed; on Debian it is in the package qemu-user")
    with tempfile.TemporaryDirectory() as folder:
        rows = list(errors(Path(folder)))
    emulator = subprocess.run([EMULATOR, "--version"], capture_output=True, text=True, check=True).stdout
    found = {"emulator": emulator.splitlines()[0], "rows": rows, "environment": environment(1).__dict__}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    show(rows)


def hear(artifact: Path, file: Path, *, as_uint8: bool) -> None:
    """Write the rows that an artifact hears, and say its answer; the system tells flags of the real CPU."""
    with (
        patch.object(int8_sums, "are_cut_off", lambda: as_uint8),
        SpeechLM.load(artifact, profile="full", threads=1) as model,
    ):
        encoded = model.encode(CLIP)
        np.save(file, encoded.rows)
        print(model.generate(encoded, PROMPT).text)


def errors(folder: Path) -> Iterator[Row]:
    """A row for each format, CPU and kind of weights."""
    for form in FORMATS:
        build(ROOT / "demo/model", folder / str(form), BuildOptions((load_profile("full"),), quantize=form))
    whole, _ = heard(folder / str(None), [], as_uint8=False)
    for form in FORMATS:
        for cpu in ("this one", *CPUS):
            emulated = [EMULATOR, "-cpu", cpu] if cpu in CPUS else []
            for as_uint8 in (False, True) if emulated and form else (False,):
                rows, answer = heard(folder / str(form), emulated, as_uint8=as_uint8)
                error = float(np.sqrt(np.square(rows - whole).sum() / np.square(whole).sum()))
                yield {
                    "weights": form or "float32",
                    "cpu": cpu,
                    "as_uint8": as_uint8,
                    "error": error,
                    "answer": answer,
                }


def heard(artifact: Path, emulated: list[str], *, as_uint8: bool) -> tuple[npt.NDArray[np.float64], str]:
    """What a process of its own hears, and its answer."""
    file = artifact.parent / "rows.npy"
    words = [*emulated, sys.executable, "-P", __file__, "--hear", str(artifact), str(file)]
    words += [AS_UINT8] if as_uint8 else []
    answer = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    return np.load(file).astype(np.float64), answer


def show(rows: list[Row]) -> None:
    table = Table("weights", "CPU", "int8 weights as uint8", "error of the rows, %", "answer")
    for row in rows:
        as_uint8 = "yes" if row["as_uint8"] else "no"
        table.add_row(
            str(row["weights"]),
            str(row["cpu"]),
            as_uint8,
            f"{100 * float(row['error']):.2f}",
            str(row["answer"]),
        )
    Console().print(table)


if __name__ == "__main__":
    main()
