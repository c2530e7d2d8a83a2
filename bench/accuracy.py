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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SETS = ROOT / "build/evaluation"
WORK = ROOT / "build/accuracy"
PAGE = ROOT / "docs/accuracy.md"
PAPER = tomllib.loads((Path(__file__).parent / "paper_tables.toml").read_text("utf-8"))
FLOPS = "10,20,30,40,50"
LAYER_TASK = "classify"  # whose clips choose the layer of a single merge

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

    @property
    def is_sparse(self) -> bool:
        """Whether one merge in one layer makes the whole reduction."""
        return self.schedules == "single"


TABLES = (
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
INTRODUCTION = """\
Written by `python bench/accuracy.py` from the results of the commands below. Nothing here was tuned to look
like the published tables: those are of another model, a thousand times larger, and stand beside for the order
of the methods. \\* marks a figure whose paired 95 % bootstrap interval of the difference from the full model
excludes 0; brackets hold its own 95 % interval. Figures of random methods are means over three seeds. H2O
removes no FLOPs: its caches keep as many audio rows as those of FastAdaSP, constant, in the same column.
Where a method removes another share than its column says, the cell says so.
""".splitlines()
LAYERS = WORK / "layers.json"
SPARSE_PROFILE = WORK / "sparse.toml"


def commands(workers: int) -> Iterator[tuple[Path, list[str]]]:
    """Every command with the file it writes; the layer of a single merge is chosen before it is used."""
    clips = f"build/evaluation/{next(table.clips for table in TABLES if table.name == LAYER_TASK)}.jsonl"
    yield (
        LAYERS,
        [
            *("select-layer", "demo/model", "--manifest", clips, "--task", LAYER_TASK, "--flops", "50"),
            *("--accuracy", "--flops-levels", FLOPS, "--threads", "1"),
            *("-o", _name(SPARSE_PROFILE), "--json", _name(LAYERS)),
        ],
    )
    for table in TABLES:
        output = WORK / f"{table.name}.json"
        layer = json.loads(LAYERS.read_text("utf-8"))["selected"] if table.is_sparse else 2
        yield (
            output,
            [
                *("compare", "demo/model", "--manifest", f"build/evaluation/{table.clips}.jsonl"),
                *("--task", table.task, "--methods", "all", "--schedules", table.schedules, "--flops", FLOPS),
                *("--start-layer", str(layer), "--workers", str(workers), "-o", _name(output)),
            ],
        )


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
    paths = {table: WORK / f"{table.name}.json" for table in TABLES}
    results = [
        (table, json.loads(path.read_text("utf-8"))) for table, path in paths.items() if path.is_file()
    ]
    missing = [table.title for table, path in paths.items() if not path.is_file()]
    lines = [
        "# What token reduction costs the demo model",
        "",
        *INTRODUCTION,
        "",
        *_environment(results[0][1]),
        *(["", f"**Not measured yet**: {'; '.join(missing)}."] if missing else ()),
    ]
    for table, found in results:
        lines += ["", *_section(table, found)]
    lines += ["", *_layers(json.loads(LAYERS.read_text("utf-8")))]
    return "\n".join(lines) + "\n"


def _section(table: Table, found: Json) -> Iterator[str]:
    yield f"## {table.title}"
    yield ""
    yield "```sh"
    yield f"fastadasp-export {' '.join(next(c for path, c in commands(1) if path.stem == table.name))}"
    yield "```"
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


def _layers(found: Json) -> Iterator[str]:
    """Table 6: transfer entropy of each layer beside the accuracy of a merge there."""
    yield "## Transfer entropy and accuracy, layer by layer"
    yield ""
    yield "```sh"
    yield f"fastadasp-export {' '.join(next(commands(1))[1])}"
    yield "```"
    yield ""
    yield f"Selected: layer {found['selected']}. The paper's Table 6 selects layer 3 of 32, with TE 2.06:"
    yield "emotion recognition 55.17 55.05 54.40 53.86 52.14 %."
    yield ""
    levels = FLOPS.split(",")
    yield _line("layer", "TE", "rank", *(f"{level} %" for level in levels))
    yield _line(*["---"] * (3 + len(levels)))
    for row in found["layers"]:
        if row["infeasible"] is not None:
            yield _line(str(row["layer"]), row["infeasible"], "", *[""] * len(levels))
            continue
        accuracy = next(iter((row["accuracy"] or {}).values()), {})
        figures = [_accuracy(accuracy.get(level)) for level in levels]
        yield _line(
            str(row["layer"]), f"{row['entropy']['transfer_entropy']:.3f}", str(row["rank"]), *figures
        )


def _accuracy(value: Any) -> str:
    number = value["value"] if isinstance(value, dict) else value
    return "" if number is None else f"{100 * number:.1f}"


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
