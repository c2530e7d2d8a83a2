"""`fastadasp-export bench`: the latency matrix of an artifact, or how it does under load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...runtime.benchmark.load.options import DEFAULT_REQUESTS, LoadOptions
from ...runtime.benchmark.options import BenchmarkOptions
from ..signals import INTERRUPTED
from .case_parameters import case_options
from .command import StrictCommand
from .lists import INTEGERS, NAMES, REALS, each_once, list_option
from .output import check_output, show_result
from .parameters import (
    PATH,
    backend,
    batch_option,
    cuda_options,
    load,
    memory_limit,
    onnxruntime_options,
    precision_option,
    refuse_auto,
    refuse_given,
)
from .progress import progress_bar

DEFAULTS, UNDER_LOAD = BenchmarkOptions(), LoadOptions(concurrency=(1,))
OF_THE_MATRIX = ("runs",)
OF_A_LOAD = "requests", "seconds", "seed", "max_batch"
"""Options of one kind of bench alone."""


def _two_defaults(field: str) -> str:
    matrix, loaded = (",".join(f"{item:g}" for item in getattr(it, field)) for it in (DEFAULTS, UNDER_LOAD))
    return f"{matrix}; under load {loaded}"


@click.command(cls=StrictCommand, short_help="Measure latency, also under load.")
@click.argument("artifact", type=PATH)
@list_option(
    "--concurrency",
    "concurrency",
    INTEGERS,
    "Measure under load: clients that each send a request when they have their last answer.",
    metavar="N",
    arrange=each_once,
)
@list_option(
    "--rate",
    "rates",
    REALS,
    "Measure under load: requests a second, which arrive at random whatever runs.",
    metavar="R",
    arrange=each_once,
)
@list_option(
    "--profile",
    "profiles",
    NAMES,
    "Profiles, which take turns.",
    otherwise="all of the artifact",
    arrange=each_once,
)
@case_options(lambda field: {"otherwise": _two_defaults(field)}, "; a load mixes them")
@click.option("--clip", type=PATH, metavar="FILE", help="Repeated to each length.  [default: seeded noise]")
@click.option("--prompt", default=DEFAULTS.prompt, metavar="TEXT", help="Text of the requests.")
@click.option(
    "--new-tokens",
    type=int,
    default=DEFAULTS.new_tokens,
    show_default=True,
    help="Tokens of each answer, exactly.",
)
@click.option("--runs", type=int, default=DEFAULTS.runs, show_default=True, help="Counted runs, at least.")
@click.option(
    "--warmup", type=int, default=DEFAULTS.warmup, show_default=True, help="Runs that are not counted."
)
@click.option("--requests", type=int, help=f"Requests of each load.  [default: {DEFAULT_REQUESTS}]")
@click.option("--seconds", type=float, metavar="S", help="Begin requests of a load for so long instead.")
@click.option(
    "--seed",
    type=int,
    default=UNDER_LOAD.seed,
    show_default=True,
    help="Of arrivals, and of which request has which beams and length.",
)
@batch_option
@backend
@onnxruntime_options
@memory_limit
@cuda_options
@precision_option
@click.option(
    "-o", "--output", type=PATH, metavar="FILE", help="Write all figures as JSON, with the environment."
)
@click.pass_context
def bench(ctx: click.Context, /, artifact: Path, output: Path | None, **values: Any) -> None:
    """Time ARTIFACT for every number of beams, length of audio and profile.

    Tables of medians go to stdout. Exits with 1 if the model can hear none of the lengths.

    With --concurrency or --rate every profile is measured under each load instead: latencies as percentiles,
    throughput, and how long requests wait. Exits with 1 if a request failed.

    Ctrl-C ends it with what was measured: the rounds, or loads, that are whole are shown and written, and the
    exit code is 130.
    """
    refuse_auto(values["profiles"], "it is chosen by what bench measures of each")
    check_output(output, (artifact, values["clip"]))
    measure = _load_bench if values["concurrency"] or values["rates"] else _matrix
    ctx.exit(measure(ctx, artifact, output, values))


def _matrix(ctx: click.Context, artifact: Path, output: Path | None, values: dict[str, Any]) -> int:
    """The exit code: 1 where nothing was measured."""
    refuse_given(ctx, OF_A_LOAD, "of a load; give --concurrency or --rate")
    options = BenchmarkOptions(**_given(values, BenchmarkOptions))
    model = load(artifact, verify=None, **values)
    from ...runtime.benchmark.benchmark import run_benchmark
    from ...runtime.benchmark.records import BenchmarkStopped
    from ...runtime.tables.benchmark import benchmark_sections

    try:
        with progress_bar("warm-up") as tick:
            benchmark = run_benchmark(model, options, tick)
    except BenchmarkStopped as stopped:
        cases = stopped.found.results
        whole = sum(case.skipped is None for case in cases)
        click.echo(f"stopped: {whole} of {len(cases)} combinations have whole rounds", err=True)
        if whole:
            show_result(stopped.found, benchmark_sections(stopped.found), output)
        return INTERRUPTED
    show_result(benchmark, benchmark_sections(benchmark), output)
    if all(case.skipped for case in benchmark.results):
        click.echo("nothing was measured: every length of audio was skipped, for the reasons above", err=True)
        return 1
    return 0


def _load_bench(ctx: click.Context, artifact: Path, output: Path | None, values: dict[str, Any]) -> int:
    """The exit code: 1 where a request has failed."""
    refuse_given(ctx, OF_THE_MATRIX, "not of a load, which has --requests or --seconds")
    options = LoadOptions(**_given(values, LoadOptions))
    model = load(artifact, verify=None, **values)
    from ...runtime.benchmark.load.load import run_load
    from ...runtime.benchmark.load.records import LoadStopped
    from ...runtime.tables.load import load_sections

    try:
        with model, progress_bar("warm-up") as tick:
            benchmark = run_load(model, options, tick)
    except LoadStopped as stopped:
        whole, loads = len(stopped.found.results), len(options.levels) * len(stopped.found.protocol.profiles)
        click.echo(f"stopped: {whole} of {loads} loads of a profile are whole", err=True)
        if whole:
            show_result(stopped.found, load_sections(stopped.found), output)
        return INTERRUPTED
    show_result(benchmark, load_sections(benchmark), output)
    return int(any(case.failures for case in benchmark.results))


def _given(values: dict[str, Any], record: type[BenchmarkOptions | LoadOptions]) -> dict[str, Any]:
    """The options of a record; a list that was not given is left to it."""
    return {name: values[name] for name in record.__dataclass_fields__ if values[name] != ()}
