"""How long engines of a larger decoder take to build, and how much memory: 24 layers of width 1024.

python bench/engine_build.py -o bench/results/engine_build.json
python bench/engine_build.py --quantize int4 -o bench/results/engine_build_int4.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from random_checkpoint import write_checkpoint

from fastadasp.export.model.formats import QUANTIZED
from fastadasp.export.options import BuildOptions, EngineOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import load_profile
from fastadasp.runtime.artifact.manifest import Manifest
from fastadasp.runtime.environment import environment

PROFILES = ("full", "dense-constant-50")
SIZES = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "intermediate_size": 4096,
    "vocab_size": 32000,
}


def main() -> None:
    """Build, and say what it took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("build/engine_build.json"))
    parser.add_argument("--quantize", choices=QUANTIZED, help="what the large matrices are in; bf16 without")
    arguments = parser.parse_args()
    output: Path = arguments.output
    with tempfile.TemporaryDirectory() as scratch:
        write_checkpoint(Path(scratch) / "checkpoint", SIZES, "bfloat16")
        before = environment(0)
        begin = time.perf_counter()
        profiles = tuple(map(load_profile, PROFILES))
        options = BuildOptions(profiles, engines=EngineOptions(), quantize=arguments.quantize)
        manifest = build(Path(scratch) / "checkpoint", Path(scratch) / "artifact", options, print)
        whole = time.perf_counter() - begin
        weights = sum(file.stat().st_size for file in (Path(scratch) / "checkpoint").glob("*.safetensors"))
    result = {
        "model": SIZES,
        "environment": asdict(before),
        "whole_build_s": round(whole, 1),
        "quantize": arguments.quantize,
        **figures(manifest, weights),
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=1) + "\n")
    print_table(result)


def figures(manifest: Manifest, weights: int) -> dict[str, Any]:
    """Of each engine: seconds, bytes of the plan, peak memory of its process, also in 16-bit weights."""
    engines = manifest.engines
    assert engines is not None
    plans = {
        name: {
            "seconds": plan.seconds,
            "plan_bytes": manifest.files[plan.file].size,
            "peak_bytes": plan.peak_bytes,
            "peak_to_weights": round((plan.peak_bytes or 0) / weights, 2),
        }
        for name, plan in engines.plans.items()
    }
    product = f"{engines.machine.product} {engines.machine.version}"
    return {"product": product, "sm": engines.machine.sm, "weight_bytes": weights, "plans": plans}


def print_table(result: dict[str, Any]) -> None:
    """One row an engine."""
    from rich.console import Console
    from rich.table import Table

    weights = result["weight_bytes"] / 1e9
    form = f", built in {result['quantize']}" if result["quantize"] else ""
    title = f"{result['product']}, sm_{result['sm']}, weights {weights:.2f} GB in 16 bits{form}"
    table = Table("engine", "built in", "plan", "peak memory", "peak / weights", title=title)
    for name, plan in result["plans"].items():
        table.add_row(
            name,
            f"{plan['seconds']:.1f} s",
            f"{plan['plan_bytes'] / 1e9:.2f} GB",
            f"{plan['peak_bytes'] / 1e9:.2f} GB",
            f"{plan['peak_to_weights']:.2f}",
        )
    engines = sum(plan["seconds"] for plan in result["plans"].values())
    console = Console(width=110)
    console.print(table)
    console.print(f"engines {engines:.1f} s, the whole build {result['whole_build_s']} s")
    console.print(f"on {result['environment']['cpu']}, {result['environment']['cores']} cores")


if __name__ == "__main__":
    main()
