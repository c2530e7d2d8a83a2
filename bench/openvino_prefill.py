"""CPU time of a prefill on OpenVINO against ONNX Runtime in fp32 and int8: one thread, side by side.

    python bench/openvino_prefill.py -o bench/results/openvino_prefill.json    # then bench/page.py

The prefill of the decoder of `compare.py` over 120 s of audio, taken in turns in one process.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import quiet
from compare import SIZES, machine
from random_checkpoint import write_checkpoint

from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import load_profile
from fastadasp.runtime.artifact.artifact import open_artifact
from fastadasp.runtime.backends import backend_named, open_sessions

PROFILES = "full", "dense-constant-50"
ROWS_PER_SECOND = 25
SYSTEMS: dict[str, tuple[str | None, str, dict[str, Any]]] = {
    "onnxruntime fp32": (None, "onnxruntime", {}),
    "onnxruntime int8": ("int8", "onnxruntime", {}),
    "openvino fp32": (None, "openvino", {"precision": "fp32"}),
    "openvino bf16": (None, "openvino", {"precision": "bf16"}),
}
"""Name -> how its matrices are quantised, its backend, and options of that."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("build/openvino_prefill.json"))
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    quiet.add_option(parser)
    asked = parser.parse_args()
    quiet.refuse_busy(parser, asked)
    with tempfile.TemporaryDirectory() as scratch:
        systems = opened(Path(scratch))
        feed, records = prompt(asked.seconds), []
        before = {**machine(), "peers": {"openvino": version("openvino")}}
        for profile in PROFILES:
            sessions = {name: it.prefill(profile) for name, it in systems.items()}
            records += report(profile, timed(sessions, feed, asked.rounds))
    result = {"environment": before, "seconds": asked.seconds, "rounds": asked.rounds, "records": records}
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    asked.output.write_text(json.dumps(result, indent=1) + "\n")


def opened(folder: Path) -> dict[str, Any]:
    write_checkpoint(folder / "checkpoint", SIZES)
    found = {}
    for name, (quantize, backend, options) in SYSTEMS.items():
        artifact = folder / name.replace(" ", "-")
        profiles = tuple(load_profile(each) for each in PROFILES)
        build(folder / "checkpoint", artifact, BuildOptions(profiles, targets=(backend,), quantize=quantize))
        chosen = backend_named(backend).options(threads=1, **options)
        found[name] = open_sessions(open_artifact(artifact), backend, chosen)
    return found


def prompt(seconds: int) -> dict[str, np.ndarray[Any, Any]]:
    random = np.random.default_rng(seconds)
    audio = 0.02 * random.standard_normal((seconds * ROWS_PER_SECOND, SIZES["hidden_size"]))
    ids = {"prefix_ids": random.integers(2, 1000, 4), "suffix_ids": random.integers(2, 1000, 8)}
    return {**ids, "audio_embeds": audio.astype(np.float32), "num_candidates": np.array([10])}


def timed(sessions: dict[str, Any], feed: dict[str, Any], rounds: int) -> dict[str, list[float]]:
    """CPU milliseconds by system; the first round is not counted."""
    found: dict[str, list[float]] = {name: [] for name in sessions}
    for i in range(rounds + 1):
        for name, session in sessions.items():
            begin = time.process_time()
            session.run(feed)
            if i:
                found[name].append(1e3 * (time.process_time() - begin))
    return found


def report(profile: str, found: dict[str, list[float]]) -> list[dict[str, Any]]:
    """A record for each system, which is printed too."""
    plain = median(found["onnxruntime fp32"])
    records = []
    for name, values in found.items():
        ms = median(values)
        records.append({"profile": profile, "system": name, "cpu_ms": ms})
        print(f"{profile:<20} {name:<18} {ms:8.0f} ms CPU   {plain / ms:5.2f}x", flush=True)
    return records


if __name__ == "__main__":
    main()
