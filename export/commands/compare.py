"""`fastadasp-export compare`: methods, schedules and FLOPs levels on the same clips, as one table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...profiles.keys import POSITIONS
from ...profiles.methods import VARIANTS
from ..studies.compare.options import FORMATS, CompareOptions
from .command import StrictCommand
from .evaluation_parameters import (
    clip_options,
    clips_of,
    evaluation_of,
    evaluation_options,
    reference_option,
    require_metrics,
    untimed_options,
)
from .lists import NAMES, PERCENTS, each_once, list_option, rising
from .output import check_output, check_restart, shown_at_the_end, work_beside, write_result
from .parameters import PATH, lora_option, onnxruntime_options
from .progress import progress_bar
from .search_parameters import say_search, search_options

DEFAULTS = CompareOptions()
ALL = "all"


@click.command("compare", cls=StrictCommand, short_help="Compare methods and levels at equal cost.")
@click.argument("checkpoint", type=PATH)
@clip_options
@list_option(
    "--methods",
    "methods",
    NAMES,
    f"Of {', '.join(VARIANTS)}.",
    default=(ALL,),
    arrange=each_once,
)
@list_option(
    "--schedules",
    "schedules",
    NAMES,
    f"Of {', '.join(DEFAULTS.schedules)}.",
    default=(ALL,),
    arrange=each_once,
)
@list_option(
    "--flops",
    "levels",
    PERCENTS,
    "Shares of the prefill FLOPs to remove, one a column.",
    metavar="PERCENT",
    default=DEFAULTS.levels,
    arrange=rising,
)
@list_option(
    "--quantize",
    "quantize",
    NAMES,
    f"What weights are in, of {', '.join(FORMATS)}. All rows in each; --methods full: no other rows.",
    default=DEFAULTS.quantize,
    arrange=each_once,
)
@click.option(
    "--start-layer", type=int, default=DEFAULTS.start_layer, show_default=True, help="The first that reduces."
)
@click.option(
    "--seeds",
    type=int,
    default=DEFAULTS.seeds,
    show_default=True,
    help="Of the random methods; a figure is the mean over them.",
)
@list_option(
    "--positions",
    "positions",
    NAMES,
    f"Whether rows close up after a reduction, or stay where they were: {', '.join(POSITIONS)}; with both, "
    "they are compared.",
    default=DEFAULTS.positions,
    arrange=each_once,
)
@lora_option
@reference_option
@untimed_options
@evaluation_options
@search_options("checkpoint")
@onnxruntime_options
@click.option("--restart", is_flag=True, help="Forget the answers of a run that was stopped.")
@click.option("--intervals", is_flag=True, help="Show the 95 % interval of each figure.")
@click.option(
    "-o", "--output", type=PATH, metavar="FILE", help="Write all figures, with intervals and costs, as JSON."
)
@click.pass_context
def compare(
    ctx: click.Context,
    /,
    checkpoint: Path,
    output: Path | None,
    restart: bool,
    intervals: bool,
    **values: Any,
) -> None:
    """Compare reduction methods and schedules on CHECKPOINT, at equal cost.

    One row per method and schedule, one column per FLOPs reduction, one table per metric; * marks what
    differs from the full model. Weight formats (--quantize) have tables of their own, where every profile is
    compared with itself in float32. With -o, artifacts and answers are kept in FILE.work until FILE is
    written: the same command goes on where it was stopped. Exits with 1 if a clip failed.
    """
    options = _options(values)
    if ALL not in values["methods"]:
        _say_left_out(options)
    check_restart(restart, output)
    from ...evaluation.answers.work_folder import work_folder_of
    from ...evaluation.clips.files import files_of

    clips = clips_of(values)
    check_output(output, (checkpoint, values["lora"], *files_of(clips)), (work_folder_of,))
    require_metrics(clips, options.evaluation, export=("onnx",))
    from ..studies.compare import comparison
    from ..studies.compare.result import comparison_result
    from ..studies.compare.table import comparison_sections

    with shown_at_the_end() as tables, work_beside(output, restart=restart) as work:
        with progress_bar("load") as tick:
            found = comparison.compare(checkpoint, clips, options, work, tick)
        say_search(options.evaluation.search, found.options.evaluation.search)
        tables.append(comparison_sections(found, intervals=intervals))
        if output is not None:
            write_result(output, comparison_result(found))
            click.echo(f"results in {output}", err=True)
    ctx.exit(1 if found.failures else 0)


def _options(values: dict[str, Any]) -> CompareOptions:
    own = {
        name: values[name]
        for name in (
            *("levels", "quantize", "start_layer", "positions", "seeds", "reference_seconds", "lora"),
        )
    }
    for name in ("methods", "schedules"):
        own[name] = _with_all(getattr(DEFAULTS, name), values[name])
    return CompareOptions(evaluation=evaluation_of(values), **own)


def _with_all(known: tuple[str, ...], given: tuple[str, ...]) -> tuple[str, ...]:
    """What is given, the word for all of them as all of them."""
    if ALL not in given:
        return given
    return each_once((*known, *(name for name in given if name != ALL)))


def _say_left_out(options: CompareOptions) -> None:
    """Methods that were named and have no row."""
    named = [VARIANTS[name] for name in options.methods if name in VARIANTS]
    for method in named:
        if not set(method.schedules) & set(options.schedules):
            known = " or ".join(method.schedules)
            click.echo(f"no row for {method.name}: it needs --schedules {known}", err=True)
