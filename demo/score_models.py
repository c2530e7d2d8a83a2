"""What models of several seeds can do on the evaluation sets, without token reduction.

    python demo/evaluation_sets.py
    python demo/score_models.py build/training/model-0 build/training/model-1 build/training/model-2

prints the table of MODEL_CARD.md: the first metric of each task in each set, of the first model, which is the
one that is shipped, with its 95 % interval over the recordings, then of the others, and the standard
deviation.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import stdev

from evaluation_sets import PLANS
from fastadasp.evaluation import EvalOptions, evaluate, read_clips
from fastadasp.evaluation.figures.scores import Figure
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import load_profile
from training.tasks import ASKED_BY


def scores(models: Sequence[Path], sets: Path, workers: int) -> Iterator[tuple[str, str, list[Figure]]]:
    """Set, task and a figure a model."""
    with tempfile.TemporaryDirectory() as folder:
        artifacts = [Path(folder, str(i)) for i in range(len(models))]
        for model, artifact in zip(models, artifacts, strict=True):
            build(model, artifact, BuildOptions((load_profile("full"),)))
        for name, plan in PLANS.items():
            for task in dict.fromkeys(ASKED_BY[prompt] for prompt in plan.prompts):
                clips = read_clips(sets / f"{name}.jsonl", task)
                found = [evaluate(artifact, clips, EvalOptions(workers=workers)) for artifact in artifacts]
                yield name, task, [one.profiles[0].figures[0] for one in found]


def cells(figures: Sequence[Figure]) -> list[str]:
    """One figure a model, and how far they spread."""
    metric = figures[0].metric
    scale, digits = (100, 1) if metric.unit == "share" else (1, 1 if metric.unit == "points" else 2)
    values = [scale * figure.value for figure in figures if figure.value is not None]
    shown = [f"{value:.{digits}f}" for value in values]
    if (between := figures[0].interval) is not None:
        shown[0] += f" [{scale * between.low:.{digits}f}, {scale * between.high:.{digits}f}]"
    spread = f"{stdev(values):.{digits}f}" if len(values) > 1 else ""
    title = f"{metric.title} %" if metric.unit == "share" else metric.title
    return [title, *shown, spread]


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sets = Path(__file__).parent.parent / "build/evaluation"
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--sets", type=Path, default=sets, help="what evaluation_sets.py wrote")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    heads = ["set", "task", "metric", *(model.name for model in options.models), "deviation"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    for name, task, figures in scores(options.models, options.sets, options.workers):
        print(f"| {' | '.join([name, task, *cells(figures)])} |", flush=True)


if __name__ == "__main__":
    main()
