"""Acceptance on a GPU: build engines for it, compare them with the reference, measure the paper's table.

    python bench/accept_gpu.py -o bench/results/accept_gpu.json

The parity is that of the demo model. The latency table has the rows of the paper's Table 12 (beams 1 and 5,
120 and 240 s, unreduced and 50 %), for a checkpoint of yours or for 24 layers with random weights.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from engine_build import SIZES
from random_checkpoint import write_checkpoint
from rich.console import Console
from rich.table import Table

from fastadasp.evaluation.results.files import result_text
from fastadasp.export.check.check import check_artifact
from fastadasp.export.check.options import CheckOptions, demo_clips
from fastadasp.export.check.table import differences, verdict_sections
from fastadasp.export.options import ENGINES, PRODUCTS, BuildOptions, EngineOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import load_profile
from fastadasp.profiles.errors import FastAdaSPError
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.artifact.artifact import open_artifact
from fastadasp.runtime.artifact.manifest import FILE_NAME
from fastadasp.runtime.benchmark.benchmark import run_benchmark
from fastadasp.runtime.benchmark.options import BenchmarkOptions
from fastadasp.runtime.benchmark.records import Benchmark, Case
from fastadasp.runtime.tables.tables import console as plain_console
from fastadasp.runtime.tables.tables import show
from fastadasp.runtime.tensorrt.sessions import open_platform

FULL, DENSE, DECAY, SPARSE = map(load_profile, ("full", "dense-constant-50", "dense-decay-50", "sparse-50"))
KEPT = replace(DENSE, name=f"{DENSE.name}-kept", positions="kept")
PARITY_PROFILES = FULL, DENSE, DECAY, SPARSE, KEPT
LATENCY_PROFILES = FULL, DENSE
PRECISIONS = ("bf16", "fp16")
DEMO = Path(__file__).parent.parent / "demo/model"
MATRIX = BenchmarkOptions(beams=(1, 5), audio_seconds=(120.0, 240.0), new_tokens=64)


def main() -> int:
    """Each part in turn; 1 if the engines differ from the reference, 2 where there is no GPU."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("build/accept_gpu.json"))
    parser.add_argument("--artifact", type=Path, default=Path("build/accept"), help="where the demo's goes")
    parser.add_argument("--engine", choices=ENGINES, default=ENGINES[0])
    parser.add_argument("--checkpoint", type=Path, help="of the latency table, if not random weights")
    options = parser.parse_args()
    try:
        gpu = open_platform(PRODUCTS[options.engine]).device
    except FastAdaSPError as error:
        print(f"accept-gpu: {error}", file=sys.stderr)
        return 2
    engines = EngineOptions(options.engine, sm=gpu.sm)
    failed = sum(parity(options.artifact / name, replace(engines, precision=name)) for name in PRECISIONS)
    if failed:
        return 1
    for name in PRECISIONS:
        mark_verified(options.artifact / name, gpu.name)
    model, found = latency(options.checkpoint, engines)
    result = {"gpu": gpu.name, "sm": gpu.sm, "model": model, **json.loads(result_text(found))}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print_table(found.results)
    return 0


def parity(folder: Path, engines: EngineOptions) -> int:
    """Build the demo model, compare every engine with the reference, and say how many comparisons fail."""
    build(DEMO, folder, BuildOptions(PARITY_PROFILES, force=True, engines=engines), print)
    verdicts = check_artifact(open_artifact(folder), CheckOptions(clips=demo_clips(), backends=("tensorrt",)))
    show(plain_console(), verdict_sections(verdicts, f"torch with the weights of {folder}"))
    print(*differences(verdicts), sep="\n")
    return sum(not verdict.finding.passed for verdict in verdicts)


def mark_verified(folder: Path, gpu: str) -> None:
    """Write into the manifest on which GPU the engines agreed with the reference."""
    manifest = open_artifact(folder).manifest
    assert manifest.engines is not None
    verified = replace(manifest, engines=replace(manifest.engines, verified_on=gpu))
    (folder / FILE_NAME).write_text(verified.to_json(), "utf-8")


def latency(checkpoint: Path | None, engines: EngineOptions) -> tuple[str, Benchmark]:
    """What was measured, and the rows of the table with all figures and the environment."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "artifact"
        if checkpoint is None:
            write_checkpoint(Path(scratch) / "checkpoint", SIZES, "bfloat16")
        source = checkpoint or Path(scratch) / "checkpoint"
        build(source, folder, BuildOptions(LATENCY_PROFILES, engines=engines), print)
        found = run_benchmark(SpeechLM.load(folder, backend="tensorrt"), MATRIX)
    model = str(checkpoint) if checkpoint else "24 layers of width 1024, random weights"
    return model, found


def print_table(cases: Sequence[Case]) -> None:
    """Medians, in the columns of the paper's table."""
    heads = ("beam", "audio s", "profile", "rows kept", "RTF", "prefill s", "decode s", "tokens/s")
    table = Table(*heads, title="Latency, medians; tokens/s = tokens of the hypothesis / decode latency")
    for case in cases:
        place = str(case.beams), f"{case.audio_seconds:g}", case.profile
        if case.skipped:
            table.add_row(*place, case.skipped)
            continue
        medians = {name: spread.median for name, spread in (case.figures or {}).items() if spread}
        figures = (medians["rtf"], medians["prefill_ms"] / 1e3, medians["decode_ms"] / 1e3)
        kept = f"{100 * (case.kept_ratio or 0):.0f} %"
        row = (*(f"{figure:.3f}" for figure in figures), f"{medians['tokens_per_second']:.1f}")
        table.add_row(*place, kept, *row)
    Console(width=110).print(table)


if __name__ == "__main__":
    sys.exit(main())
