"""Measure what int8 and int4 come to on CPUs without VNNI, which are emulated (docs/quantization.md).

    apt-get install qemu-user
    python bench/without_vnni.py -o bench/results/without_vnni.json

The demo model hears a clip and answers, on this CPU and on emulated ones. The errors are those of its audio
rows, and of the logits of the decoder: root mean square, relative to what float32 gives on this CPU, whose
rows and answer every decoder is given for its logits. Weights of int8 are taken as they are, whose sums such
CPUs cut off, and as uint8, as the runtime does there. Emulation says nothing of time.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
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
from fastadasp.runtime.artifact.artifact import TOKENIZER
from fastadasp.runtime.environment import environment
from fastadasp.runtime.onnxruntime import int8_sums
from fastadasp.runtime.prompt import PromptCodec, tokenizer_of

ROOT = Path(__file__).parent.parent
CLIP, PROMPT = ROOT / "demo/clips/dates-01.flac", "<asr>"
EMULATOR = "qemu-x86_64"
CPUS = ("Haswell", "EPYC-Rome")  # as the emulator names them: AVX2, no VNNI
FORMATS = None, "int8", "int4"  # None: float32
AS_UINT8 = "--weights-as-uint8"
GIVEN = "given.npz"  # to every decoder

Floats, Ids = npt.NDArray[np.float32], npt.NDArray[np.int64]
Row = dict[str, str | float | bool]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "build/without_vnni.json")
    parser.add_argument("--hear", type=Path, nargs=3, help=argparse.SUPPRESS)
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


def hear(artifact: Path, given: Path, file: Path, *, as_uint8: bool) -> None:
    """Write what an artifact makes of the clip and of what it is given, and say its answer.

    The system tells flags of the real CPU.
    """
    with (
        patch.object(int8_sums, "are_cut_off", lambda: as_uint8),
        SpeechLM.load(artifact, profile="full", threads=1) as model,
    ):
        encoded = model.encode(CLIP)
        np.savez(file, rows=encoded.rows, logits=logits_of(model, **np.load(given)))
        print(model.generate(encoded, PROMPT).text)


def logits_of(model: SpeechLM, before: Ids, rows: Floats, after: Ids, tokens: Ids) -> Floats:
    """Those of each token and of what ends them, (tokens + 1, vocab_size)."""
    decoder, vocab = model.decoder("full", before, rows, after), model.manifest.decoder.dims.vocab_size
    tops = [decoder.start(vocab)]
    tops += [decoder.step(np.array([token]), np.zeros(1, np.int64), vocab) for token in tokens]
    logits = np.empty((len(tops), vocab), np.float32)
    for row, top in zip(logits, tops, strict=True):
        row[top.ids[0]] = top.logits[0]
    return logits


def errors(folder: Path) -> Iterator[Row]:
    """A row for each format, CPU and kind of weights."""
    for form in FORMATS:
        build(ROOT / "demo/model", folder / str(form), BuildOptions((load_profile("full"),), quantize=form))
    write_given(folder / str(None), folder / GIVEN)
    whole, _ = heard(folder / str(None), [], as_uint8=False)
    for form in FORMATS:
        for cpu in ("this one", *CPUS):
            emulated = [EMULATOR, "-cpu", cpu] if cpu in CPUS else []
            for as_uint8 in (False, True) if emulated and form else (False,):
                found, answer = heard(folder / str(form), emulated, as_uint8=as_uint8)
                off = {f"error_of_{name}": error(found[name], whole[name]) for name in whole}
                yield {
                    "weights": form or "float32",
                    "cpu": cpu,
                    "as_uint8": as_uint8,
                    **off,
                    "answer": answer,
                }


def write_given(artifact: Path, file: Path) -> None:
    """The prompt, with the audio rows of this artifact, and its answer."""
    with SpeechLM.load(artifact, profile="full", threads=1) as model:
        assert model.manifest.prompt is not None, "the demo has a template"
        codec = PromptCodec(tokenizer_of(model.artifact.read(TOKENIZER), TOKENIZER), model.manifest.prompt)
        ids, encoded = codec.encode(PROMPT), model.encode(CLIP)
        tokens = model.generate(encoded, ids).hypotheses[0].tokens
    np.savez(file, before=ids.before, rows=encoded.rows, after=ids.after, tokens=np.array(tokens))


def heard(artifact: Path, emulated: list[str], *, as_uint8: bool) -> tuple[Mapping[str, Floats], str]:
    """What a process of its own writes, and its answer."""
    given, file = artifact.parent / GIVEN, artifact.parent / "heard.npz"
    words = [*emulated, sys.executable, "-P", __file__, "--hear", *map(str, (artifact, given, file))]
    words += [AS_UINT8] if as_uint8 else []
    answer = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    return dict(np.load(file)), answer


def error(found: Floats, whole: Floats) -> float:
    """Root mean square, relative to that of the numbers themselves."""
    return float(np.linalg.norm(found.astype(np.float64) - whole) / np.linalg.norm(whole.astype(np.float64)))


def show(rows: list[Row]) -> None:
    table = Table("weights", "CPU", "int8 weights as uint8", "error of rows, %", "of logits, %", "answer")
    for row in rows:
        as_uint8 = "yes" if row["as_uint8"] else "no"
        off = [f"{100 * float(row[name]):.2f}" for name in ("error_of_rows", "error_of_logits")]
        table.add_row(str(row["weights"]), str(row["cpu"]), as_uint8, *off, str(row["answer"]))
    Console().print(table)


if __name__ == "__main__":
    main()
