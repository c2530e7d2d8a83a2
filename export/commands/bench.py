"""`fastadasp-export bench`: the latency matrix of an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...runtime.benchmark.options import BenchmarkOptions
from .output import check_output, write_json
from .parameters import PATH, backend, listed, load, names, numbers, onnxruntime_options
from .progress import progress_bar

DEFAULTS = BenchmarkOptions()


@click.command()
@click.argument("artifact", type=PATH)
@click.option(
    "--profile",
    "profiles",
    callback=names,
    default=listed(DEFAULTS.profiles),
    metavar="NAME,...",
    help="Profiles, which take turns.  [default: all of the artifact]",
)
@click.option(
    "--beams",
    callback=numbers(int),
    default=listed(DEFAULTS.beams),
    show_default=True,
    metavar="N,...",
    help="Numbers of beams.",
)
@click.option(
    "--audio-seconds",
    callback=numbers(float),
    default=listed(DEFAULTS.audio_seconds),
    show_default=True,
    metavar="S,...",
    help="Lengths of audio.",
)
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
@click.option(
    "-o", "--output", type=PATH, metavar="FILE", help="Write all figures as JSON, with the environment."
)
def bench(
    artifact: Path, output: Path | None, backend: str, providers: tuple[str, ...], lean: bool, **values: Any
) -> None:
    """Time ARTIFACT for every number of beams, length of audio and profile.

    Tables of medians go to stdout.
    """
    options = BenchmarkOptions(**values)
    if output is not None:
        check_output(output)
    runtime = {"backend": backend, "threads": options.threads, "providers": providers, "lean": lean}
    model = load(artifact, verify=False, **runtime)
    from ...runtime.benchmark.benchmark import run_benchmark
    from ...runtime.tables.benchmark import benchmark_sections
    from ...runtime.tables.tables import console, show

    with progress_bar("warm-up") as tick:
        benchmark = run_benchmark(model, options, tick)
    show(console(), benchmark_sections(benchmark))
    if output is not None:
        write_json(output, benchmark.to_json())
        click.echo(f"results in {output}", err=True)
