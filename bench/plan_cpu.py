"""How far the CPU row of `plan` is from `bench`: on the demo's model and on a decoder with random weights.

Both clocks count the CPU time of this process, with one thread: other work on the machine counts less.

    python bench/plan_cpu.py -o bench/results/plan_cpu.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from compare import SIZES
from random_checkpoint import write_checkpoint

from fastadasp.evaluation.results.files import ResultFile
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.export.prediction import cpu
from fastadasp.export.prediction.options import PlanOptions
from fastadasp.export.prediction.plan import plan
from fastadasp.profiles.profile import load_profiles
from fastadasp.runtime import SpeechLM, latency
from fastadasp.runtime.benchmark.benchmark import run_benchmark
from fastadasp.runtime.benchmark.options import BenchmarkOptions
from fastadasp.runtime.environment import environment

DEMO = Path(__file__).parents[1] / "demo" / "model"
PROFILES = load_profiles(("full", "dense-constant-50"))
SECONDS = (5.0, 30.0, 120.0)
THREADS = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("build/plan_cpu.json"))
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    for module in (latency, cpu):
        module.time = SimpleNamespace(perf_counter=time.process_time)  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_checkpoint(folder / "decoder", SIZES)
        models = {"demo": DEMO, "random decoder": folder / "decoder"}
        found = {
            name: compared(path, folder / f"{path.name}.art", options.runs) for name, path in models.items()
        }
    content = {"environment": asdict(environment(THREADS)), "clock": "CPU time of the process", **found}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    show(found)


def compared(checkpoint: Path, artifact: Path, runs: int) -> dict[str, Any]:
    """Measured and predicted times of every case, and the ceilings that were measured."""
    build(checkpoint, artifact, BuildOptions(PROFILES))
    model = SpeechLM.load(artifact, threads=THREADS)
    measured = run_benchmark(
        model, BenchmarkOptions(audio_seconds=SECONDS, threads=THREADS, runs=runs, warmup=1)
    )
    asked = PlanOptions(PROFILES, ("cpu",), audio_seconds=SECONDS, threads=THREADS)
    found = plan(checkpoint, asked, ResultFile("bench", measured, None))
    (device,) = found.devices
    cases = [{**asdict(each), "error_before": each.error_before} for each in found.calibration]
    return {"flops_a_second": device.flops_a_second, "bytes_a_second": device.bytes_a_second, "cases": cases}


def show(found: dict[str, Any]) -> None:
    for name, each in found.items():
        print(f"{name}: {each['flops_a_second'] / 1e9:.0f} GFLOP/s, {each['bytes_a_second'] / 1e9:.1f} GB/s")
        for case in each["cases"]:
            times = f"{case['measured_ms']:9.2f} ms, plan {case['before_ms']:9.2f}"
            print(f"  {case['case']:38} {case['what']:8} {times} {100 * case['error_before']:+6.1f} %")
        errors = [abs(case["error_before"]) for case in each["cases"]]
        print(f"  mean {100 * sum(errors) / len(errors):.1f} %, largest {100 * max(errors):.1f} %")


if __name__ == "__main__":
    main()
