"""The bound of the memory of a request against measured peaks, each in a process of its own (Linux).

The demo, and a decoder with random weights and a toy encoder, as float32 and as int8. A process loads the
model, answers half a second of noise, so that the mapped weights are in memory, and then the request three
times over: what is measured is the peak of its resident memory above that of the loaded model after each.

    python bench/request_memory.py -o bench/results/request_memory.json
    python bench/request_memory.py --backend openvino -o bench/results/request_memory_openvino.json

With the second command only the decoder with random weights is measured, with one beam and in bf16.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from compare import SIZES
from random_checkpoint import write_checkpoint

from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import load_profile
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.environment import environment
from fastadasp.runtime.prompt import PromptIds

DEMO = Path(__file__).parent.parent / "demo" / "model"
PROFILES = ("full", "dense-constant-50")
FORMATS: dict[str, dict[str, Any]] = {"fp32": {}, "int8": {"quantize": "int8"}}
KV = {"fp32, fp16 KV": {"kv_precision": "fp16"}}
SECONDS, BEAMS, REPEATS = (5.0, 30.0, 120.0), (1, 5), 3
OPENVINO_SECONDS = (30.0, 60.0, 120.0)
NEW_TOKENS, RATE, THREADS = 64, 16000, 1
TEXT = PromptIds(np.arange(2, 6), np.arange(2, 10))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("build/request_memory.json"))
    parser.add_argument("--backend", choices=("onnxruntime", "openvino"), default="onnxruntime")
    options = parser.parse_args()
    output: Path = options.output
    before = environment(THREADS)
    with tempfile.TemporaryDirectory() as scratch:
        cases = _cases if options.backend == "onnxruntime" else _openvino_cases
        records = list(cases(Path(scratch)))
    output.parent.mkdir(parents=True, exist_ok=True)
    result = {"new_tokens": NEW_TOKENS, "environment": asdict(before), "records": records}
    output.write_text(json.dumps(result, indent=1) + "\n")


def _cases(folder: Path) -> Iterator[dict[str, Any]]:
    write_checkpoint(folder / "random", SIZES)
    checkpoints = {"demo": DEMO, "random": folder / "random"}
    for (name, checkpoint), (weights, given) in product(checkpoints.items(), {**FORMATS, **KV}.items()):
        artifact = folder / f"{name} {weights}"
        build(checkpoint, artifact, BuildOptions(tuple(map(load_profile, PROFILES)), **given))
        lengths = SECONDS if weights in FORMATS else SECONDS[-1:]
        for profile, seconds, beams in product(PROFILES, lengths, BEAMS):
            case = {"profile": profile, "seconds": seconds, "beams": beams}
            found = measured(artifact, **case)
            record = {"model": name, "weights": weights, **case, **found}
            print(json.dumps(record), file=sys.stderr)
            yield record


def _openvino_cases(folder: Path) -> Iterator[dict[str, Any]]:
    write_checkpoint(folder / "random", SIZES)
    artifact, profiles = folder / "openvino", tuple(map(load_profile, PROFILES))
    build(folder / "random", artifact, BuildOptions(profiles, targets=("openvino",)))
    for profile, seconds in product(PROFILES, OPENVINO_SECONDS):
        case = {"profile": profile, "seconds": seconds, "beams": 1, "backend": "openvino"}
        record = {"model": "random", "weights": "bf16", **case, **measured(artifact, **case)}
        print(json.dumps(record), file=sys.stderr)
        yield record


def measured(artifact: Path, **case: Any) -> dict[str, Any]:
    """Peak and bound in bytes, of a process of its own."""
    command = [sys.executable, __file__, "--request", str(artifact), json.dumps(case)]
    out = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(out.stdout)
    return {**found, "bound_of_peaks": [found["bound_bytes"] / peak for peak in found["peak_bytes"]]}


def request(artifact: str, case: str) -> None:
    """The child process."""
    asked = json.loads(case)
    backend = asked.get("backend", "onnxruntime")
    model = SpeechLM.load(artifact, asked["profile"], backend=backend, threads=THREADS)
    options = {"num_beams": asked["beams"], "max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS}
    model.generate(_noise(0.5), TEXT, max_new_tokens=2, min_new_tokens=2)
    samples = _noise(asked["seconds"])
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    peaks = []
    for _ in range(REPEATS):
        model.generate(samples, TEXT, **options)
        peaks.append(_status("VmHWM") - before)
    bound = model.request_memory(asked["seconds"], text_rows=TEXT.num_text_rows, **options)
    print(json.dumps({"peak_bytes": peaks, "bound_bytes": bound.peak, "parts": asdict(bound)}))


def _noise(seconds: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    samples = np.random.default_rng(0).standard_normal(round(seconds * RATE), np.float32)
    return 0.1 * samples


def _status(key: str) -> int:
    """One figure of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--request"]:
        request(*sys.argv[2:])
    else:
        main()
