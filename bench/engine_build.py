"""How large engines are, and what their builds take: of the demo, and of 24 layers of width 1024.

A build is added to the file, or takes the place of the same one there, so that one can be measured again.

python bench/engine_build.py --model demo,larger --quantize bf16,int8,int4 -o bench/results/engine_build.json
python bench/page.py
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

from random_checkpoint import write_checkpoint

from fastadasp.export.model.formats import QUANTIZED
from fastadasp.export.options import BuildOptions, EngineOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import load_profile
from fastadasp.runtime.artifact.manifest import Manifest
from fastadasp.runtime.environment import environment

ROOT = Path(__file__).parents[1]
PROFILES = ("full", "dense-constant-50")
MODELS = {"demo": "demo", "larger": "24 layers, width 1024"}
BF16 = "bf16"  # no format: what engines compute in
FORMATS = (BF16, *QUANTIZED)
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
    parser.add_argument("--model", default="larger", help=f"of {', '.join(MODELS)}, with commas")
    parser.add_argument("--quantize", default=BF16, help=f"of {', '.join(FORMATS)}, with commas")
    arguments = parser.parse_args()
    for model, form in product(arguments.model.split(","), arguments.quantize.split(",")):
        found = measured(model, form)
        print_table(found)
        write(arguments.output, found)


def measured(model: str, form: str) -> dict[str, Any]:
    """One build."""
    with checkpoint_of(model) as (checkpoint, scratch):
        before = environment(0)
        begin = time.perf_counter()
        profiles = tuple(map(load_profile, PROFILES))
        quantize = None if form == BF16 else form
        options = BuildOptions(profiles, engines=EngineOptions(), quantize=quantize)
        manifest = build(checkpoint, scratch / "artifact", options, print)
        whole = time.perf_counter() - begin
        weights = sum(file.stat().st_size for file in checkpoint.glob("*.safetensors"))
    return {
        "model": MODELS[model],
        "format": form,
        "environment": asdict(before),
        "whole_build_s": round(whole, 1),
        **figures(manifest, weights),
    }


@contextmanager
def checkpoint_of(model: str) -> Iterator[tuple[Path, Path]]:
    """A checkpoint in 16 bits, and a folder for what is made of it."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        if model == "demo":
            yield ROOT / "demo" / "model", scratch
        else:
            write_checkpoint(scratch / "checkpoint", SIZES, "bfloat16")
            yield scratch / "checkpoint", scratch


def write(output: Path, found: dict[str, Any]) -> None:
    """Put a build among those of a file."""
    builds = json.loads(output.read_text("utf-8"))["builds"] if output.exists() else []
    named = found["model"], found["format"]
    builds = [each for each in builds if (each["model"], each["format"]) != named] + [found]
    builds.sort(key=lambda each: (each["model"] != MODELS["demo"], FORMATS.index(each["format"])))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({"builds": builds}, indent=1) + "\n", "utf-8")


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
    title = f"{result['model']}: {result['product']}, sm_{result['sm']}, weights {weights:.2f} GB in 16 bits"
    title += f", built in {result['format']}"
    table = Table("engine", "built in", "plan", "peak memory", "peak / weights", title=title)
    for name, plan in result["plans"].items():
        table.add_row(
            name,
            f"{plan['seconds']:.1f} s",
            f"{plan['plan_bytes'] / 1e6:.1f} MB",
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
