"""The tables of a result file, with ratios against transformers bf16."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from peers.cases import MODELS
from peers.systems import BASE

Record = dict[str, Any]
TARGETS = {  # of the decoder on one thread: seconds, beams, profile -> how many times as fast as BASE
    (120, 1, "full"): 2.0,
    (120, 1, "dense-constant-50"): 2.8,
    (120, 5, "full"): 6.0,
    (120, 5, "dense-constant-50"): 8.0,
    (240, 1, "full"): 1.5,
    (240, 1, "dense-constant-50"): 2.0,
    (240, 5, "full"): 5.0,
    (240, 5, "dense-constant-50"): 7.0,
}
ASKED = "ours openvino bf16, int8 steps"  # the system that the targets are of
HEADS = ("audio", "beams", "system", "prefill", "step", "total", "by the clock", f"against {BASE}", "asked")


def title(part: Record) -> str:
    """Of the table of a part."""
    return f"{MODELS[part['model']].title}; threads: {part['threads']}"


def rows(part: Record) -> Iterator[list[str]]:
    """As text: ms of CPU, but for one column; the ratio is of CPU time, that by the clock beside."""
    bases = {(r["seconds"], r["beams"]): r for r in part["records"] if r["system"] == BASE}
    for r in part["records"]:
        case = r["seconds"], r["beams"]
        ratio = against(r, bases[case]) if case in bases else ""
        times = (f"{r['prefill_cpu_ms']:.0f}", f"{r['step_cpu_ms']:.1f}")
        totals = (f"{r['total_cpu_ms']:.0f}", f"{r['total_wall_ms']:.0f}")
        yield [f"{case[0]} s", str(case[1]), r["system"], *times, *totals, ratio, asked(part, r)]


def against(r: Record, base: Record) -> str:
    """How many times as fast: by CPU time, and by the clock."""
    cpu, wall = (base[f"total_{clock}_ms"] / r[f"total_{clock}_ms"] for clock in ("cpu", "wall"))
    return f"{cpu:.2f}x ({wall:.2f}x)"


def asked(part: Record, r: Record) -> str:
    """The target of a row, if it has one."""
    if r["system"].startswith("ours") and part["model"] == "demo":
        return "1.0x"
    if (part["model"], part["threads"]) != ("decoder", 1):
        return ""
    name, _, profile = r["system"].rpartition(", ")
    target = TARGETS.get((r["seconds"], r["beams"], profile))
    return f"{target}x" if target and name == ASKED else ""


def absent(part: Record) -> Iterator[str]:
    """A line for each system that is not there."""
    yield from (f"{name} is not here: {why}" for name, why in part["not_here"].items())


def show(part: Record) -> None:
    """Print it."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*HEADS, title=title(part), title_justify="left")
    for row in rows(part):
        table.add_row(*row)
    console = Console(width=150)
    console.print(table)
    for line in absent(part):
        console.print(line)
