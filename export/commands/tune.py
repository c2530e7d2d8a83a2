"""`fastadasp-export tune`: the profile that saves most within a budget of accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...profiles.errors import RequestError
from ...profiles.keys import POSITIONS
from ...profiles.schedule import SCHEDULES
from ..studies.tune.options import LATENCY, OBJECTIVES, TRIABLE, TuneOptions
from .command import StrictCommand
from .evaluation_parameters import (
    budget_of,
    budget_options,
    check_budget,
    clip_options,
    clips_of,
    evaluation_of,
    evaluation_options,
    reference_option,
    require_metrics,
)
from .lists import LAYERS, NAMES, PERCENTS, each_once, list_option, rising
from .output import (
    check_output,
    check_profile_output,
    check_two,
    profile_name,
    shown_at_the_end,
    work_beside,
    write_profile,
    write_result,
)
from .parameters import PATH, lora_option, onnxruntime_options, refuse_given
from .progress import progress_bar
from .search_parameters import say_search, search_options

DEFAULTS = TuneOptions(0.0)
TUNED = (
    *("objective", "methods", "schedules", "start_layers", "levels", "positions"),
    *("reference_seconds", "runs", "warmup", "lora"),
)


OF_LATENCY = "runs", "warmup"  # options of that objective alone


@click.command("tune", cls=StrictCommand, short_help="Find the profile that saves most in a budget.")
@click.argument("checkpoint", type=PATH)
@clip_options
@budget_options
@click.option(
    "--objective",
    type=click.Choice(OBJECTIVES),
    default=DEFAULTS.objective,
    show_default=True,
    help="Most FLOPs saved, fewest KV bytes, or least time of prefill and decode.",
)
@list_option(
    "--methods",
    "methods",
    NAMES,
    f"Among {', '.join(TRIABLE)}.",
    default=DEFAULTS.methods,
    arrange=each_once,
)
@list_option(
    "--schedules",
    "schedules",
    NAMES,
    f"Among {', '.join(SCHEDULES)}.",
    default=DEFAULTS.schedules,
    arrange=each_once,
)
@list_option(
    "--start-layers",
    "start_layers",
    LAYERS,
    "Where reduction begins.",
    metavar="N",
    otherwise="0, 2, a quarter, a third and a half of the layers",
    arrange=rising,
)
@list_option(
    "--flops-levels",
    "levels",
    PERCENTS,
    "FLOPs reductions that are tried.",
    metavar="PERCENT",
    default=DEFAULTS.levels,
    arrange=rising,
)
@list_option(
    "--positions",
    "positions",
    NAMES,
    f"Whether rows close up after a reduction, or stay where they were: {', '.join(POSITIONS)}.",
    default=DEFAULTS.positions,
    arrange=each_once,
)
@lora_option
@reference_option
@click.option(
    "--runs", type=int, default=DEFAULTS.runs, show_default=True, help="Timed runs of a finalist, at least."
)
@click.option(
    "--warmup", type=int, default=DEFAULTS.warmup, show_default=True, help="Runs that are not timed."
)
@evaluation_options
@search_options("checkpoint")
@onnxruntime_options
@click.option("--restart", is_flag=True, help="Forget what a run that was stopped has found.")
@click.option("-o", "--output", type=PATH, required=True, metavar="FILE.toml", help="Write the profile.")
@click.option("--json", "results", type=PATH, metavar="FILE", help="Write everything that was found.")
@click.pass_context
def tune(ctx: click.Context, /, checkpoint: Path, output: Path, results: Path | None, **values: Any) -> None:
    """Find the profile of CHECKPOINT that saves most while it loses at most a budget of accuracy.

    Half of the clips are searched on, by bisection over FLOPs levels for each schedule, start layer and kind
    of positions; the other half, drawn by the seed, judges the choice once. The profile is written if the
    choice is within the budget there, too; the exit code is 1 if it is not, if there is no choice, or if a
    clip failed. What was found is kept in FILE.toml.work until the end: the same command goes on where it was
    stopped.
    """
    check_two(output, results)
    if values["objective"] != LATENCY:
        refuse_given(ctx, OF_LATENCY, f"of --objective {LATENCY}, which is not given")
    name = profile_name(output)
    options = _options(values, name)
    from ...evaluation.answers.work_folder import work_folder_of
    from ...evaluation.clips.files import files_of

    clips = clips_of(values)
    reads = checkpoint, values["lora"], *files_of(clips)
    check_profile_output(output, reads, (work_folder_of,))
    check_output(results, reads)
    check_budget(values, clips)
    require_metrics(clips, options.evaluation, export=("onnx",))
    from ...runtime.tables.tables import console, show
    from ..studies.tune import tune as tuning
    from ..studies.tune.result import tuning_result
    from ..studies.tune.table import tuning_sections

    with shown_at_the_end() as tables, work_beside(output, restart=values["restart"]) as folder:
        with progress_bar("load") as tick:
            found = tuning.tune(checkpoint, clips, options, folder, tick)
        say_search(options.evaluation.search, found.options.evaluation.search)
        if found.is_confirmed or results is not None:
            tables.append(tuning_sections(found))
        else:  # what was found is kept until it is read
            show(console(), tuning_sections(found))
        if found.is_confirmed and found.profile is not None:
            write_profile(output, found.profile)
            click.echo(f"profile in {output}", err=True)
        if results is not None:
            write_result(results, tuning_result(found))
            click.echo(f"results in {results}", err=True)
    ctx.exit(0 if found.is_confirmed and not found.failures else 1)


def _options(values: dict[str, Any], name: str) -> TuneOptions:
    if (budget := budget_of(values)) is None:
        raise RequestError("give the budget once: --max-wer-increase for asr, or --max-loss for any task")
    return TuneOptions(
        budget,
        name=name,
        evaluation=evaluation_of(values),
        **{key: values[key] for key in TUNED},
    )
