"""Measure what token reduction costs the demo model in accuracy, and write docs/accuracy.md from the figures.

    python bench/accuracy.py              # all of it; a run that was stopped goes on
    python bench/accuracy.py --page-only  # the page again, from figures that are there

Every table is the output of a command of `fastadasp-export`, which the page names. Clips are those of
`demo/evaluation_sets.py`. Published figures of another model (`bench/paper_tables.toml`) stand beside for the
order of the methods; the values themselves cannot be compared.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SETS = ROOT / "build/evaluation"
WORK = ROOT / "build/accuracy"
FINDINGS = Path(__file__).parent / "accuracy_findings.md"
PAGE = ROOT / "docs/accuracy.md"
PAPER = tomllib.loads((Path(__file__).parent / "paper_tables.toml").read_text("utf-8"))
FLOPS = "10,20,30,40,50"

Json = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """One comparison."""

    name: str
    title: str
    clips: str  # a set of demo/evaluation_sets.py
    task: str
    schedules: str
    paper: str | None = None  # a table of bench/paper_tables.toml
    positions: str = "compact"

    @property
    def is_sparse(self) -> bool:
        """Whether one merge in one layer makes the whole reduction."""
        return self.schedules == "single"


COMPACT = (
    Table("asr", "Speech recognition, human voice, 2 to 10 s", "human", "asr", "constant,decay", "asr"),
    Table("classify", "Speaking style, synthetic voices", "synthetic", "classify", "single", "classify"),
    Table("caption", "Captions, synthetic voices", "synthetic", "caption", "single", "caption"),
    Table("qa", "Spoken questions, human voice", "human", "qa", "single"),
    Table(
        "translate",
        "Word-level translation, human voice",
        "human",
        "translate",
        "constant,decay",
        "translate",
    ),
    Table(
        "asr-30", "Speech recognition, human voice, 28 to 30 s", "human-30", "asr", "constant,decay", "asr"
    ),
)
KEPT = tuple(
    replace(
        table, name=f"{table.name}-kept", title=f"Kept positions: {table.title}", paper=None, positions="kept"
    )
    for table in COMPACT
    if table.name in ("asr", "asr-30", "qa", "translate")
)
TABLES = (*COMPACT, *KEPT)
INTRODUCTION = """\
Written by `python bench/accuracy.py` from the results of the commands below. Nothing here was tuned to look
like the published tables: those are of another model, a thousand times larger, and stand beside for the order
of the methods. \\* marks a figure whose paired 95 % bootstrap interval of the difference from the full model
excludes 0; brackets hold its own 95 % interval. Figures of random methods are means over three seeds. H2O
removes no FLOPs: its caches keep as many audio rows as those of FastAdaSP, constant, in the same column.
Where a method removes another share than its column says, the cell says so.
""".splitlines()


@dataclass(frozen=True)
class Layers:
    """One layer selection with the accuracy at every layer beside it."""

    name: str
    title: str
    clips: str
    task: str
    paper: str = ""
    positions: str = "compact"


LAYERS = (
    Layers(
        "layers",
        "speaking style, synthetic voices",
        "synthetic",
        "classify",
        "The paper's Table 6 selects layer 3 of 32, with a transfer entropy of 2.06; emotion recognition "
        "under the merge there 55.17 · 55.05 · 54.4 · 53.86 · 52.14 %.",
    ),
    Layers("layers-asr", "speech recognition, human voice, 2 to 10 s", "human", "asr"),
    Layers(
        "layers-asr-kept",
        "kept positions, speech recognition, human voice, 2 to 10 s",
        "human",
        "asr",
        positions="kept",
    ),
)
SPARSE = LAYERS[0]  # whose layer the single merges of the other tables take


def commands(workers: int) -> Iterator[tuple[Path, list[str]]]:
    """Every command with the file it writes; the layer of a single merge is chosen before it is used."""
    for layers in LAYERS:
        output = WORK / f"{layers.name}.json"
        yield (
            output,
            [
                *("select-layer", "demo/model", "--manifest", f"build/evaluation/{layers.clips}.jsonl"),
                *("--task", layers.task, *_positions(layers), "--flops", "50"),
                *("--accuracy", "--flops-levels", FLOPS),
                *("--threads", "1", "-o", _name(output.with_suffix(".toml")), "--json", _name(output)),
            ],
        )
    for table in TABLES:
        output = WORK / f"{table.name}.json"
        layer = _read(SPARSE)["selected"] if table.is_sparse else 2
        yield (
            output,
            [
                *("compare", "demo/model", "--manifest", f"build/evaluation/{table.clips}.jsonl"),
                *("--task", table.task, "--methods", "all", "--schedules", table.schedules, "--flops", FLOPS),
                *("--start-layer", str(layer), *_positions(table)),
                *("--workers", str(workers), "-o", _name(output)),
            ],
        )


def _positions(part: Table | Layers) -> tuple[str, ...]:
    return () if part.positions == "compact" else ("--positions", part.positions)


def measure(workers: int) -> None:
    """Run what has no result yet."""
    WORK.mkdir(parents=True, exist_ok=True)
    if not (SETS / "synthetic-30.jsonl").is_file():
        _run([sys.executable, str(ROOT / "demo/evaluation_sets.py"), "-o", str(SETS)])
    for output, command in commands(workers):
        if not output.is_file():
            begin = time.perf_counter()
            _run([str(Path(sys.executable).with_name("fastadasp-export")), *command])
            print(f"{output.name}: {time.perf_counter() - begin:.0f} s", flush=True)


def page() -> str:
    """The content of docs/accuracy.md; a table without a result yet is named as missing."""
    parts = [*TABLES, *LAYERS]
    found = {part: _read(part) for part in parts if _path(part).is_file()}
    missing = [part.title for part in parts if part not in found]
    lines = [
        "# What token reduction costs the demo model",
        "",
        *INTRODUCTION,
        "",
        *_environment(next(iter(found.values()))),
        *(["", f"**Not measured yet**: {'; '.join(missing)}."] if missing else ()),
        "",
        *FINDINGS.read_text("utf-8").splitlines(),
    ]
    for part, result in found.items():
        lines += ["", *(_section(part, result) if isinstance(part, Table) else _layers(part, result))]
    return "\n".join(lines) + "\n"


def _path(part: Table | Layers) -> Path:
    return WORK / f"{part.name}.json"


def _read(part: Table | Layers) -> Json:
    content: Json = json.loads(_path(part).read_text("utf-8"))
    return content


def _command(part: Table | Layers) -> Iterator[str]:
    """The command; more workers change no answer."""
    yield "```sh"
    command = next(command for path, command in commands(2) if path == _path(part))
    yield f"fastadasp-export {' '.join(command)}"
    yield "```"


def _section(table: Table, found: Json) -> Iterator[str]:
    yield f"## {table.title}"
    yield ""
    yield from _command(table)
    reference = found["protocol"]["reference_audio_seconds"]
    yield ""
    yield f"{found['clips']} questions; ratios solved for {reference:g} s of audio."
    for metric in found["metrics"]:
        if _figure(found["full"], metric) is None:
            continue
        yield ""
        yield f"{metric['title']}, {metric['better']} is better; full model {_value(found['full'], metric)}"
        yield ""
        yield from _rows(
            found, metric, PAPER.get(table.paper or "") if metric == found["metrics"][0] else None
        )


def _rows(found: Json, metric: Json, paper: Json | None) -> Iterator[str]:
    levels = [f"{level:g} %" for level in found["levels"]]
    yield _line("method", *levels, *([paper["table"]] if paper else ()))
    yield _line(*["---"] * (1 + len(levels) + bool(paper)))
    for row in found["rows"]:
        published = [_published(paper, row)] if paper else []
        yield _line(row["label"], *(_cell(cell, metric) for cell in row["cells"]), *published)


def _cell(cell: Json, metric: Json) -> str:
    figure = _figure(cell, metric)
    if figure is None:
        return cell["unmet"] or "-"
    text = _value(cell, metric)
    change = figure["delta"] or {}
    if change.get("low") is not None and not change["low"] <= 0 <= change["high"]:
        text += "\\*"
    achieved = cell["achieved_flops_percent"]
    if achieved and abs(achieved - cell["level"]) > 1:
        text += f" (at {achieved:.0f} %)"
    return text


def _value(result: Json, metric: Json) -> str:
    """The figure with its interval, or with its deviation over seeds."""
    figure = _figure(result, metric)
    scale = 100 if metric["unit"] == "share" else 1
    digits = 2 if metric["unit"] == "score" else 1

    def show(value: float) -> str:
        return f"{scale * value:.{digits}f}"

    assert figure is not None
    between = f" [{show(figure['low'])}, {show(figure['high'])}]" if figure["low"] is not None else ""
    return show(figure["value"]) + between


def _figure(result: Json, metric: Json) -> Json | None:
    figure: Json | None = result["figures"].get(metric["name"]) if result["figures"] else None
    return None if figure is None or figure["value"] is None else figure


def _published(paper: Json, row: Json) -> str:
    rows = paper["rows"]
    found = rows.get(f"{row['method']} {row['schedule']}", rows.get(row["method"]))
    return " · ".join(f"{value:g}" for value in found) if found else ""


def _layers(layers: Layers, found: Json) -> Iterator[str]:
    """Table 6: transfer entropy of each layer beside the accuracy of a merge there."""
    accuracy, levels = found["accuracy"], FLOPS.split(",")
    metric = accuracy["metrics"][accuracy["metric"]]
    yield f"## Transfer entropy and accuracy, layer by layer: {layers.title}"
    yield ""
    yield from _command(layers)
    yield ""
    full = _accuracy(accuracy["full"], metric, metric["name"])
    yield (
        f"{metric['title']} % under one merge in each layer, {_better(metric)} is better; full model {full}. "
        f"Transfer entropy (TE) at 50 %. Layer {found['selected']} has the lowest. {layers.paper}".rstrip()
    )
    yield ""
    yield _line("layer", "TE", "rank", "first in", *(f"{level} %" for level in levels))
    yield _line(*["---"] * (4 + len(levels)))
    for row in found["layers"]:
        entropy = [row["infeasible"], "", ""]
        if row["infeasible"] is None:
            first = f"{100 * row['spread']['best']:.0f} %"
            entropy = [f"{row['entropy']['transfer_entropy']:.2f}", str(row["rank"]), first]
        values = row["accuracy"][metric["name"]]
        yield _line(str(row["layer"]), *entropy, *(_accuracy(values, metric, level) for level in levels))
    best = [str(accuracy["best"][level]) for level in levels]
    yield _line("the best layer", "", "", "", *best)
    agreement = [accuracy["rank_correlation"][level]["rho"] for level in levels]
    shown = ["" if rho is None else f"{rho:+.2f}" for rho in agreement]
    yield _line("rank correlation of TE with it", "", "", "", *shown)
    yield ""
    yield "*first in*: the share of resamples of the clips in which the layer has the lowest TE."


def _better(metric: Json) -> str:
    return "lower" if metric["lower_is_better"] else "higher"


def _accuracy(values: Json, metric: Json, key: str) -> str:
    """In percent; empty where the level cannot be met."""
    found = values.get(key)
    scale = 100 if metric["unit"] == "share" else 1
    return "" if found is None or found["value"] is None else f"{scale * found['value']:.1f}"


def _environment(found: Json) -> Iterator[str]:
    machine = found["environment"]
    libraries = ", ".join(f"{name} {version}" for name, version in machine["libraries"].items())
    yield f"{machine['cpu']}, {machine['cores']} cores; Python {machine['python']}; {libraries}."


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, check=False)
    if done.returncode not in (0, 1):  # 1: some clips failed, which the result lists
        raise SystemExit(done.returncode)


def main() -> None:
    """Measure, then write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--page-only", action="store_true", help="write the page from results that are there")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    if not options.page_only:
        measure(options.workers)
    PAGE.write_text(page(), "utf-8")
    print(f"{PAGE.relative_to(ROOT)} written")


if __name__ == "__main__":
    main()
