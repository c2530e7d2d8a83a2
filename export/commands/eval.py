"""`fastadasp-export eval`: what the profiles of an artifact cost in accuracy, with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...runtime.backends import RuntimeOptions
from ...runtime.search_options import SearchOptions
from ..accuracy.normalizers import NORMALIZERS
from ..accuracy.options import EvalOptions
from ..accuracy.tasks import TASKS
from .output import check_output, write_json
from .parameters import PATH, clip_options, names, require, runtime_options, search_of, search_options
from .progress import progress_bar

DEFAULTS = EvalOptions()
NORMALIZER_OF_TASK = ", ".join(f"{name} {task.normalizer}" for name, task in TASKS.items())


@click.command("eval")
@click.argument("artifact", type=PATH)
@clip_options
@click.option(
    "--profile",
    "profiles",
    callback=names,
    default="",
    metavar="NAME,...",
    help="Profiles; the first is what the others are compared with.  [default: all of the artifact]",
)
@click.option(
    "--normalizer",
    type=click.Choice(list(NORMALIZERS)),
    help=f"What is done to texts before they are compared.  [default: {NORMALIZER_OF_TASK}]",
)
@click.option(
    "--resamples", type=int, default=DEFAULTS.resamples, show_default=True, help="Of the bootstrap."
)
@click.option("--seed", type=int, default=DEFAULTS.seed, show_default=True, help="Of the bootstrap.")
@click.option(
    "--workers", type=int, default=DEFAULTS.workers, show_default=True, help="Processes that share the clips."
)
@search_options
@runtime_options
@click.option("--restart", is_flag=True, help="Forget the answers of a run that was stopped.")
@click.option(
    "-o", "--output", type=PATH, metavar="FILE", help="Write figures, failures and every answer as JSON."
)
@click.pass_context
def evaluate(ctx: click.Context, /, artifact: Path, output: Path | None, **values: Any) -> None:
    """Measure the answers of ARTIFACT to clips with references, under each profile.

    asr: WER, CER; translate: BLEU, chrF; classify: accuracy, macro F1; caption: CIDEr, SPICE, SPIDEr; qa:
    exact match. Tables go to stdout. With -o, answers are kept in FILE.journal.jsonl until FILE is written:
    the same command goes on where it was stopped. Exits with 1 if a clip failed.
    """
    options = _options(values)
    if output is not None:
        check_output(output)
    from ..accuracy.clips import read_clips

    clips = read_clips(
        values["manifest"], values["task"], audio_root=values["audio_root"], prompt=values["prompt"]
    )
    _require(clips.task, options)
    from ...runtime.report import console, show
    from ..accuracy import evaluation as accuracy
    from ..accuracy.journal import journal_of
    from ..accuracy.result_file import evaluation_to_json
    from ..accuracy.table import evaluation_sections

    journal = None if output is None else journal_of(output)
    with progress_bar("load") as tick:
        found = accuracy.evaluate(
            artifact,
            clips,
            options,
            tick,
            journal=journal,
            restart=values["restart"],
            verify=values["verify"],
        )
    show(console(), evaluation_sections(found))
    if output is not None and journal is not None:
        write_json(output, evaluation_to_json(found))
        journal.unlink()
        click.echo(f"results in {output}", err=True)
    ctx.exit(1 if found.failures else 0)


def _options(values: dict[str, Any]) -> EvalOptions:
    own = {name: values[name] for name in ("profiles", "normalizer", "resamples", "seed", "workers")}
    providers = {"providers": values["providers"]} if values["providers"] else {}
    runtime = RuntimeOptions(values["backend"], values["threads"], prepack=not values["lean"], **providers)
    return EvalOptions(search=SearchOptions(**search_of(values)), runtime=runtime, **own)


def _require(task: str, options: EvalOptions) -> None:
    normalizer = NORMALIZERS[options.normalizer or TASKS[task].normalizer]
    require(*TASKS[task].packages, *normalizer.packages, extra="accuracy")
