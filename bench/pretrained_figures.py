"""Measure the second model without token reduction, and write the figures of docs/pretrained_model.md.

    python bench/pretrained_figures.py                    # what has no result yet; a stopped run goes on
    python bench/pretrained_figures.py --training second  # of another one that began from nothing
    python bench/pretrained_figures.py --page-only        # the figures again, from results that are there

Models are those that `make train-pretrained` has left in the work folder, clips those of
`demo/pretrained_sets.py`, which are made where they are missing. Results lie in bench/results/pretrained, a
folder for each training, the log of its losses beside them; those of other checkpoints are refused, not mixed
with.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from evaluated import ROOT, hold_to_checkpoints, name_of, names_of, placed, run, table_row

from fastadasp.evaluation.results.evaluation import EvaluationResult
from fastadasp.evaluation.results.figure_text import estimate_text, figure_of
from fastadasp.evaluation.results.files import read_results

RESULTS = ROOT / "bench/results/pretrained"
PAGE = ROOT / "docs/pretrained_model.md"
BEGIN = "<!-- written by bench/pretrained_figures.py -->"
LOG = "log.jsonl"
SETS = {
    "human": "human prompts, 1 to 6 s",
    "human-read": "human, a book and playing cards, 1 to 10 s",
    "human-15": "human prompts joined, to 15 s",
    "human-30": "the same, to 30 s",
    "human-120": "the same, to 120 s",
    "synthetic": "held-out voices and sentences, 1 to 9 s",
    "synthetic-15": "the same joined, to 15 s",
    "synthetic-30": "the same, to 30 s",
    "synthetic-120": "the same, to 120 s",
}
COLUMNS = {
    **{name: name for name in ("stage", "seed", "step", "hours")},
    "peak_gb": "GB",
    "answers": "cross entropy",
    "ctc": "CTC",
    "held_out": "held out",
    "size": "size of audio rows",
}  # of the log's table: field -> title
SHOWN = 12  # lines of the log in the page, for each stage
LONGEST_PAUSE = 600.0  # seconds: a step that took longer was a run that had been stopped


def measure(work: Path, results: Path) -> None:
    """Build every model that is there, and evaluate it on every set; `results` are those of its training."""
    there = {model.name.removeprefix("model-") for model in work.glob("model-*")}
    names = sorted(there | names_of(results))  # all of one training, whose log stands beside them
    hold_to_checkpoints(results, {name: work / f"model-{name}" for name in names})
    shutil.copy(work / LOG, results / LOG)
    sets = work / "sets"
    if not all((sets / f"{name}.jsonl").is_file() for name in SETS):
        run([str(ROOT / "demo/pretrained_sets.py"), "--work", str(work)])
    for name in names:
        outputs = {clips: results / f"{name}.{clips}.json" for clips in SETS}
        missing = {clips: output for clips, output in outputs.items() if not output.is_file()}
        artifact = name_of(work / f"artifact-{name}")
        if missing:
            model = name_of(work / f"model-{name}")
            _fastadasp(None, "build", model, "-o", artifact, "--profile", "full", "--force")
        for clips, output in missing.items():
            _fastadasp(
                output,
                *("eval", artifact, "--manifest", name_of(sets / f"{clips}.jsonl")),
                *("--task", "asr", "--normalizer", "english", "--threads", "2", "-o", name_of(output)),
            )


def write_page() -> None:
    """Put what is known where the page has its marks."""
    text = "\n".join([*accuracy(), *training()])
    PAGE.write_text(placed(PAGE.read_text("utf-8"), BEGIN, text), "utf-8")


def trainings() -> list[Path]:
    """The folders of results."""
    return sorted(path.parent for path in RESULTS.glob(f"*/{LOG}"))


def accuracy() -> Iterator[str]:
    """Word error rates of all models, or that there are none."""
    models = [(folder, name) for folder in trainings() for name in sorted(names_of(folder))]
    if not models:
        yield "**Not measured yet**: no model of this recipe has been evaluated."
        return
    yield (
        "Word error rate in %, greedy search, without token reduction; behind a model stands its training, "
        "brackets in cells hold 95 % intervals:"
    )
    yield ""
    yield table_row("set", "clips", *(f"{name} ({folder.name})" for folder, name in models))
    yield table_row(*["---"] * (2 + len(models)))
    for clips, title in SETS.items():
        found = [_result(folder / f"{name}.{clips}.json") for folder, name in models]
        count = next((str(len(result.records)) for result in found if result), "")
        yield table_row(title, count, *(_wer(result) if result else "not measured" for result in found))


def training() -> Iterator[str]:
    """The losses of every stage of each training, some lines of each."""
    for folder in trainings():
        file = folder / LOG
        yield ""
        yield (
            f"Losses of the {folder.name} training, each a mean over five steps, and the most memory of a "
            f"run until then; a pause within a run counts as up to {LONGEST_PAUSE / 60:.0f} minutes. The "
            f"whole log is `{name_of(file)}`:"
        )
        yield ""
        yield table_row(*COLUMNS.values())
        yield table_row(*["---"] * len(COLUMNS))
        yield from _losses(_steps(file.read_text("utf-8").splitlines()))


def _losses(lines: list[dict[str, Any]]) -> Iterator[str]:
    """The rows that are shown of a log."""
    hours, shown = 0.0, []
    for before, line in pairwise([lines[0], *lines]):
        hours += min(LONGEST_PAUSE, max(0.0, line["time"] - before["time"])) / 3600
        shown.append({**line, "hours": round(hours, 2)})
    for line in _some(shown):
        yield table_row(*(str(line.get(column, "")) for column in COLUMNS))


def _steps(written: list[str]) -> list[dict[str, Any]]:
    """The lines of the log: of a step that was done again after a kill, the last one."""
    lines = [json.loads(line) for line in written]
    return list({(line["stage"], line["seed"], line["step"]): line for line in lines}.values())


def _some(lines: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The first line of every stage, its last, and those between with a held-out loss, at even distances."""
    stages = list(dict.fromkeys((line["stage"], line["seed"]) for line in lines))
    for stage in stages:
        of_stage = [line for line in lines if (line["stage"], line["seed"]) == stage]
        if any("held_out" in line for line in of_stage):
            ends = of_stage[0], of_stage[-1]
            of_stage = [line for line in of_stage if "held_out" in line or line in ends]
        places = {round(i * (len(of_stage) - 1) / (SHOWN - 1)) for i in range(SHOWN)}
        yield from (of_stage[place] for place in sorted(places))


def _result(path: Path) -> EvaluationResult | None:
    if not path.is_file():
        return None
    (file,) = read_results([path]).of(EvaluationResult)
    return file.found


def _wer(result: EvaluationResult) -> str:
    metric = result.metrics[0]
    return estimate_text(metric, figure_of(metric, result.profiles[0].figures))


def _fastadasp(output: Path | None, *words: str) -> None:
    run(["-P", "-m", "fastadasp.export", *words], output)


def main() -> None:
    """Measure, then write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=ROOT / "build/pretrained")
    parser.add_argument("--training", default="first", help="the folder of its results; first if left out")
    parser.add_argument("--page-only", action="store_true", help="from results that are there")
    options = parser.parse_args()
    if not options.page_only:
        measure(options.work.resolve(), RESULTS / options.training)
    write_page()


if __name__ == "__main__":
    main()
