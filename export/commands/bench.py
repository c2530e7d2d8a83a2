"""`fastadasp-export bench`: the latency matrix of an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...runtime.benchmark.options import BenchmarkOptions
from .case_parameters import case_options
from .command import StrictCommand
from .lists import NAMES, each_once, list_option
from .output import check_output, write_result
from .parameters import PATH, backend, cuda_options, load, memory_limit, onnxruntime_options
from .progress import progress_bar

DEFAULTS = BenchmarkOptions()


@click.command(cls=StrictCommand)
@click.argument("artifact", type=PATH)
@list_option(
    "--profile",
    "profiles",
    NAMES,
    "Profiles, which take turns.",
    otherwise="all of the artifact",
    arrange=each_once,
)
@case_options(DEFAULTS.beams, DEFAULTS.audio_seconds)
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
@backend
@onnxruntime_options
@memory_limit
@cuda_options
@click.option(
    "-o", "--output", type=PATH, metavar="FILE", help="Write all figures as JSON, with the environment."
)
@click.pass_context
def bench(
    ctx: click.Context,
    /,
    artifact: Path,
    output: Path | None,
    backend: str,
    providers: tuple[str, ...],
    lean: bool,
    max_request_memory: int | None,
    device: str | None,
    strict: bool,
    cuda_graph: bool,
    **values: Any,
) -> None:
    """Time ARTIFACT for every number of beams, length of audio and profile.

    Tables of medians go to stdout. Exits with 1 if the model can hear none of the lengths.
    """
    options = BenchmarkOptions(**values)
    if output is not None:
        check_output(output)
    runtime = {"backend": backend, "threads": options.threads, "providers": providers, "lean": lean}
    runtime |= {"device": device, "strict": strict, "cuda_graph": cuda_graph}
    model = load(artifact, verify=None, max_request_memory=max_request_memory, **runtime)
    from ...runtime.benchmark.benchmark import run_benchmark
    from ...runtime.tables.benchmark import benchmark_sections
    from ...runtime.tables.tables import console, show

    with progress_bar("warm-up") as tick:
        benchmark = run_benchmark(model, options, tick)
    show(console(), benchmark_sections(benchmark))
    if output is not None:
        write_result(output, benchmark)
        click.echo(f"results in {output}", err=True)
    if all(case.skipped for case in benchmark.results):
        click.echo("nothing was measured: every length of audio was skipped, for the reasons above", err=True)
        ctx.exit(1)
