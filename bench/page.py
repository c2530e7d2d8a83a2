"""Write the tables of docs/benchmarks.md that stand between its markers, from the result files.

python bench/page.py
"""

from __future__ import annotations

import argparse
import json
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from compare import DTYPES, TARGETS

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
RESULTS = ROOT / "bench" / "results"
LINE = 120

Result = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=PAGE)
    options = parser.parse_args()
    text = PAGE.read_text("utf-8")
    for name, section in SECTIONS.items():
        text = placed(text, name, section(json.loads((RESULTS / f"{name}.json").read_text("utf-8"))))
    options.output.write_text(text, "utf-8")


def placed(text: str, name: str, content: str) -> str:
    """The page with this content between the two markers of the name."""
    begin, end = f"<!-- from bench/results/{name}.json by bench/page.py -->\n", "\n<!-- end -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    found, count = pattern.subn(lambda _: f"{begin}\n{content}{end}", text)
    assert count == 1, f"{PAGE} has {count} places for {name}"
    return found


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def quantized(result: Result) -> str:
    """Our formats beside transformers, in CPU time."""
    part = result["latency"]
    records = part["records"]
    totals = {(r["seconds"], r["beams"], r["system"]): r["total_cpu"] for r in records}
    greedy = {(r["seconds"], r["system"]): r["step_cpu"] for r in records if r["beams"] == 1}
    peers = [
        f"transformers {name}" for name in DTYPES if f"transformers {name}" in {r["system"] for r in records}
    ]
    rows = []
    for r in records:
        asked, target = TARGETS.get((r["system"], r["beams"]), ("", 0))
        rows.append(
            [
                *(f"{r['seconds']} s", str(r["beams"]), r["system"]),
                *(f"{r['prefill_cpu']:.0f}", f"{r['step_cpu']:.1f}", f"{r['total_cpu']:.0f}"),
                *(f"{totals[r['seconds'], r['beams'], peer] / r['total_cpu']:.2f}x" for peer in peers),
                f"{target}x" if f"transformers {asked}" in peers else "",
                f"{r['step_cpu'] / greedy[r['seconds'], r['system']]:.2f}" if r["beams"] > 1 else "",
            ]
        )
    heads = ["audio", "beams", "system", "prefill", "step", "total", *(f"against {peer}" for peer in peers)]
    words = f"{where(part['environment'])} Medians of {part['runs']} runs after one of warm-up."
    return filled(words) + table([*heads, "target", "step / greedy step"], rows)


def llama_cpp(result: Result) -> str:
    """Our formats beside those of llama.cpp, in CPU time."""
    records = {(r["system"], r["beams"]): r for r in result["records"]}
    beams = sorted({beams for _, beams in records})
    systems = list(dict.fromkeys(system for system, _ in records))
    rows = [
        [system, *(f"{records[system, b][f'{f}_cpu_ms']:.1f}" for f in ("prefill", "step") for b in beams)]
        for system in systems
    ]
    heads = ["system", *(f"{figure}, beams {b}" for figure in ("prefill", "step") for b in beams)]
    shares = [
        [t["format"], t["figure"], str(t["beams"]), f"{t['share']:.2f}", f"{t['most']:.2f}"]
        for t in result["targets"]
    ]
    built = result["llama_cpp"]
    words = f"{where(result['environment'])} llama.cpp was built by {built['compiler']}, native. "
    words += f"Medians of {result['runs']} runs after one of warm-up."
    targets = table(
        ["ours", "figure", "beams", "time of ours / of llama.cpp's better attention", "at most"], shares
    )
    return f"{filled(words)}{table(heads, rows)}\n{targets}"


def filled(words: str) -> str:
    """A paragraph."""
    return textwrap.fill(words, LINE) + "\n\n"


def where(environment: Result) -> str:
    """The machine, in a sentence."""
    versions = {**environment["libraries"], **environment.get("peers", {})}
    named = [
        f"{name} {versions[name]}" for name in ("onnxruntime", "torch", "transformers") if name in versions
    ]
    found = f" ({', '.join(environment['instructions'])})" if "instructions" in environment else ""
    return (
        f"{environment['cpu']}{found}, {environment['cores']} cores, {environment['threads']} thread; "
        f"{', '.join(named)}; load average {environment['load_average'][0]:.1f} when it began."
    )


SECTIONS: dict[str, Callable[[Result], str]] = {"quantized": quantized, "llama_cpp": llama_cpp}

if __name__ == "__main__":
    main()
