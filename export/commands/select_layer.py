"""`fastadasp-export select-layer`: where a sparse profile merges, by transfer entropy."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...evaluation.options import EvalOptions
from ...runtime.runtime_options import runtime_options
from ..studies.select_layer.options import SelectionOptions
from .command import StrictCommand
from .evaluation_parameters import clip_options, clips_of, reference_option, require_metrics
from .lists import PERCENTS, list_option, one_option, rising
from .output import (
    check_output,
    check_profile_output,
    check_restart,
    check_two,
    profile_name,
    shown_at_the_end,
    work_beside,
    write_profile,
    write_result,
)
from .parameters import PATH, lora_option, positions_option, refuse_given, require
from .progress import progress_bar
from .search_parameters import SEARCH, SEARCH_IDS, say_search, search_of, search_options

if TYPE_CHECKING:
    from ...evaluation.clips.clip import ClipSet
    from ..studies.select_layer.accuracy import LayerAccuracy

DEFAULTS = SelectionOptions(Fraction(1, 2))
OWN = "positions", "reference_seconds", "resamples", "seed", "threads", "lora"
OF_ACCURACY = "flops_levels", "workers", "restart", *SEARCH, *SEARCH_IDS


@click.command("select-layer", cls=StrictCommand, short_help="Choose the layer where a merge harms least.")
@click.argument("checkpoint", type=PATH)
@clip_options
@one_option(
    "--flops",
    "flops_reduction",
    PERCENTS,
    "Share of the prefill FLOPs that one merge shall remove.",
    metavar="PERCENT",
    default=DEFAULTS.flops_reduction,
    instead="a layer is chosen at one; --flops-levels evaluates at several",
)
@positions_option
@lora_option
@reference_option
@click.option(
    "--resamples",
    type=click.IntRange(min=1),
    default=DEFAULTS.resamples,
    show_default=True,
    help="Of the recordings, for the spread of the ranks.",
)
@click.option("--seed", type=click.IntRange(min=0), default=DEFAULTS.seed, help="Of the resamples.")
@click.option(
    "--threads", type=click.IntRange(min=0), default=DEFAULTS.threads, help="Threads; 0 takes one per core."
)
@click.option(
    "--accuracy", is_flag=True, help="Evaluate a merge at each layer on the same clips, as eval does."
)
@list_option(
    "--flops-levels",
    "flops_levels",
    PERCENTS,
    "Evaluate at these FLOPs reductions.",
    metavar="PERCENT",
    otherwise="that of --flops",
    arrange=rising,
)
@click.option("--workers", type=int, default=1, show_default=True, help="Processes that share the clips.")
@search_options("checkpoint")
@click.option("--restart", is_flag=True, help="Forget the answers of an evaluation that was stopped.")
@click.option("-o", "--output", type=PATH, metavar="FILE.toml", help="Write the profile of that layer.")
@click.option("--json", "results", type=PATH, metavar="FILE", help="Write all figures, with the environment.")
@click.pass_context
def select_layer(
    ctx: click.Context,
    /,
    checkpoint: Path,
    flops_reduction: Fraction,
    output: Path | None,
    results: Path | None,
    **values: Any,
) -> None:
    """Choose the layer at which one merge in CHECKPOINT harms least, for a sparse profile.

    The transfer entropy of a layer is how far a merge there moves the entropy of the decoder's last block
    from where the same merge at the last layer leaves it. The smallest wins, among the layers from which the
    FLOPs target can be met. The clip list is that of eval; 32 recordings or more are worth trusting. With
    --accuracy, answers are kept in a folder beside --json or -o until that is written: the same command goes
    on where it was stopped. Exits with 1 if a clip failed.
    """
    check_two(output, results)
    if not values["accuracy"]:
        refuse_given(ctx, OF_ACCURACY, "of --accuracy, which is not given")
    check_restart(values["restart"], results or output, "--json or -o")
    own = {name: values[name] for name in OWN}
    name = DEFAULTS.name if output is None else profile_name(output)
    options = SelectionOptions(flops_reduction, name=name, **own)
    accuracy = _accuracy_options(values)
    from ...evaluation.answers.work_folder import work_folder_of
    from ...evaluation.clips.files import files_of

    clips = clips_of(values)
    reads = checkpoint, values["lora"], *files_of(clips)
    if output is not None:
        check_profile_output(output, reads, (work_folder_of,))
    check_output(results, reads, (work_folder_of,))
    needed = ("onnx", "torch")
    if accuracy is None:
        require(*needed)
    else:
        require_metrics(clips, accuracy, export=needed)
    from ..studies.select_layer import select_layer as selection
    from ..studies.select_layer.result import selection_result
    from ..studies.select_layer.table import selection_sections

    with progress_bar("load") as tick:
        found = selection.select_layer(checkpoint, clips, options, partial(tick, "clips"))
    place = (results or output) if accuracy is not None else None
    with shown_at_the_end() as tables, work_beside(place, restart=values["restart"]) as folder:
        if accuracy is not None:
            levels = values["flops_levels"] or (options.flops_reduction,)
            measured = _measure(checkpoint, clips, options, levels, accuracy, folder)
            say_search(accuracy.search, measured.evaluation.options.search)
            found = found.with_accuracy(measured)
        tables.append(selection_sections(found))
        if output is not None:
            write_profile(output, found.profile)
        if results is not None:
            write_result(results, selection_result(found))
    for warning in found.warnings:
        click.echo(f"warning: {warning}", err=True)
    ctx.exit(1 if found.failures or (found.accuracy and found.accuracy.evaluation.failures) else 0)


def _accuracy_options(values: dict[str, Any]) -> EvalOptions | None:
    """How layers are evaluated, checked before any work; None where they are not."""
    if not values["accuracy"]:
        return None
    own = {name: values[name] for name in ("resamples", "seed", "workers")}
    runtime = runtime_options(threads=values["threads"])
    return EvalOptions(search=search_of(values), runtime=runtime, **own)


def _measure(
    checkpoint: Path,
    clips: ClipSet,
    options: SelectionOptions,
    levels: tuple[Fraction, ...],
    accuracy: EvalOptions,
    folder: Path,
) -> LayerAccuracy:
    from ..studies.select_layer.accuracy import measure_layers

    with progress_bar("build") as tick:
        return measure_layers(checkpoint, clips, options, levels, accuracy, folder, tick)
