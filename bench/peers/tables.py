"""The tables of a result file, with ratios against transformers bf16 and against each peer at its best."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from peers.cases import BEAMS, MODELS, Part
from peers.systems import BASE, PEERS, systems

Record = dict[str, Any]
PROFILES = "full", "dense-constant-50"
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
DEMO_TARGET = 1.0  # of every row of ours, on every number of threads
ASKED = "ours openvino bf16, int8 steps"  # the system that the targets are of
INT8 = "ours onnxruntime int8"
SHOWN = ASKED, INT8, "ours onnxruntime fp32"
HEADS = ("beams", "system", "prefill", "step", "total", "by the clock", f"against {BASE}", "asked")
BESIDE = {  # head of a column -> how the names of its systems begin
    BASE: BASE,
    **{name: f"{name} " for name in PEERS if name not in ("transformers", "ours")},
}
NOT_RUN, NEVER = "not measured", "–"  # a peer that nothing was measured of; one that does not take a model


def part_of(record: Record) -> Part:
    """The part that a record is of."""
    return Part(record["model"], record["seconds"], record["threads"])


def title(part: Part, short: bool = False) -> str:
    """Of its table, or in a list."""
    model = MODELS[part.model]
    return f"{model.short if short else model.title}; {part.seconds} s of audio; threads: {part.threads}"


def rows(part: Record) -> Iterator[list[str]]:
    """As text: ms of CPU, but for one column; the ratio is of CPU time, that by the clock beside."""
    bases = _bases(part)
    for r in part["records"]:
        times = (f"{r['prefill_cpu_ms']:.0f}", f"{r['step_cpu_ms']:.1f}")
        totals = (f"{r['total_cpu_ms']:.0f}", f"{r['total_wall_ms']:.0f}")
        ratio = ""
        if r["beams"] in bases:
            ratio = "{:.2f}x ({:.2f}x)".format(*(against(r, bases[r["beams"]], c) for c in ("cpu", "wall")))
        target = asked(part, r)
        yield [str(r["beams"]), r["system"], *times, *totals, ratio, f"{target}x" if target else ""]


def _bases(part: Record) -> dict[int, Record]:
    return {r["beams"]: r for r in part["records"] if r["system"] == BASE}


def against(r: Record, base: Record, clock: str) -> float:
    """How many times as fast as another: by CPU time ("cpu"), or by the clock ("wall")."""
    return float(base[f"total_{clock}_ms"] / r[f"total_{clock}_ms"])


def asked(part: Record, r: Record) -> float | None:
    """The target of a row, if it has one."""
    name, _, profile = r["system"].rpartition(", ")
    if part["model"] == "demo":
        return DEMO_TARGET if name.startswith("ours ") else None
    if (part["model"], part["threads"], name) != ("decoder", 1, ASKED):
        return None
    return TARGETS.get((part["seconds"], r["beams"], profile))


def reached(part: Record) -> str:
    """How many rows have what is asked of them."""
    bases = _bases(part)
    pairs = [(r, target) for r in part["records"] if r["beams"] in bases and (target := asked(part, r))]
    if not pairs:
        return ""
    cpu, wall = (
        sum(against(r, bases[r["beams"]], clock) >= target for r, target in pairs)
        for clock in ("cpu", "wall")
    )
    return f"Of {len(pairs)} rows with a target {cpu} reach it in CPU time, {wall} by the clock."


def absent(part: Record) -> Iterator[str]:
    """A line for each system that is not there, and for those that were not asked."""
    yield from (f"{name} is not here: {why}" for name, why in part["not_here"].items())
    here = [system for system in systems(part["model"]) if system.name not in part["not_here"]]
    found = {(r["beams"], r["system"]) for r in part["records"]}
    for beams in BEAMS:
        wanted = [title for system in here for _, title in system.titles()]
        missing = [title for title in wanted if (beams, title) not in found]
        if missing:
            names = "all systems" if missing == wanted else "; ".join(missing)
            yield f"Not run with beams {beams}: {names}"


def peaks(part: Record) -> str:
    """The most memory that the process of each system had resident."""
    found: dict[str, int] = {}
    for system in systems(part["model"]):
        sizes = [r["peak_bytes"] for r in part["records"] if r["system"] in dict(system.titles()).values()]
        if any(sizes):
            found[system.name] = max(filter(None, sizes))
    listed = "; ".join(f"{name} {size / 1e9:.1f}" for name, size in found.items())
    return f"Peak memory of the processes, in GB: {listed}." if listed else ""


def beside(part: Record, beams: int, ours: str, clock: str) -> Iterator[str]:
    """A cell for each peer: its time over that of ours under each profile, the peer in its best format."""
    for prefix, best, ratios in _beside(part, beams, ours, clock):
        if best is None:
            yield NOT_RUN if any(s.name.startswith(prefix) for s in systems(part["model"])) else NEVER
            continue
        form = best["system"].removeprefix(prefix)
        yield " ".join(filter(None, (times(ratios), f"({form})" if form else "")))


def _beside(
    part: Record, beams: int, ours: str, clock: str
) -> Iterator[tuple[str, Record | None, list[float]]]:
    """Each peer: how its systems' names begin, its best record, and its time over ours under each profile."""
    records = {r["system"]: r for r in part["records"] if r["beams"] == beams}
    mine = [r for profile in PROFILES if (r := records.get(f"{ours}, {profile}"))]
    for prefix in BESIDE.values():
        theirs = [r for name, r in records.items() if name.startswith(prefix)]
        if not theirs or len(mine) < len(PROFILES):
            yield prefix, None, []
            continue
        best = min(theirs, key=lambda r: r[f"total_{clock}_ms"])
        yield prefix, best, [against(r, best, clock) for r in mine]


def least(parts: Iterable[Record], ours: str, clock: str) -> list[float]:
    """Under each profile, the least of what any peer's time is over ours; nothing where none was measured."""
    cases = [case for part in parts for beams in BEAMS for case in _beside(part, beams, ours, clock)]
    return [min(each) for each in zip(*(ratios for *_, ratios in cases if ratios), strict=True)]


def times(ratios: Iterable[float]) -> str:
    """As text, under both profiles."""
    return " / ".join(f"{ratio:.2f}x" for ratio in ratios)


def saved(part: Record) -> Iterator[list[str]]:
    """A row for each number of beams: CPU time of ours under both profiles, and the share saved."""
    records = {(r["beams"], r["system"]): r["total_cpu_ms"] for r in part["records"]}
    for beams in BEAMS:
        cells = []
        for name in SHOWN:
            full, half = (records.get((beams, f"{name}, {profile}")) for profile in PROFILES)
            known = full is not None and half is not None
            cells.append(f"{full:.0f}, {half:.0f}: {100 * (1 - half / full):.0f} %" if known else NOT_RUN)
        yield [MODELS[part["model"]].short, f"{part['seconds']} s", str(beams), *cells]


def compared(
    parts: dict[str, Record], cases: Iterable[Part], shown: Sequence[str], clock: str
) -> Iterator[list[str]]:
    """A row for each part, number of beams, and system of ours: what it is, and the cells beside."""
    for part in cases:
        for beams in BEAMS:
            for name in shown:
                record = parts.get(part.name)
                cells = list(beside(record, beams, name, clock)) if record else [NOT_RUN] * len(BESIDE)
                case = (MODELS[part.model].short, f"{part.seconds} s", str(part.threads), str(beams))
                yield [*case, name.removeprefix("ours "), *cells]


def show(part: Record) -> None:
    """Print it."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*HEADS, title=title(part_of(part)), title_justify="left")
    for row in rows(part):
        table.add_row(*row)
    console = Console(width=150)
    console.print(table)
    for line in (reached(part), peaks(part), *absent(part)):
        if line:
            console.print(line)
