"""`fastadasp-export bench`: the latency matrix of an artifact."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ...profiles.errors import OutputError
from ...runtime.benchmark_options import BenchmarkOptions
from .parameters import PATH, backend, listed, names, numbers
from .run import load

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
@click.option("--threads", type=int, default=DEFAULTS.threads, help="Threads of a run; 0 is one a core.")
@click.option(
    "--provider", "providers", multiple=True, metavar="NAME", help="Of ONNX Runtime, best first; repeatable."
)
@click.option("--lean", is_flag=True, help="Keep one copy of the weights, as in run.")
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
        _check_output(output)
    runtime = {"backend": backend, "threads": options.threads, "providers": providers, "lean": lean}
    model = load(artifact, verify=False, **runtime)
    from ...runtime.benchmark import run_benchmark
    from ...runtime.benchmark_report import benchmark_sections
    from ...runtime.report import console, show

    with _progress() as tick:
        benchmark = run_benchmark(model, options, tick)
    show(console(), benchmark_sections(benchmark))
    if output is not None:
        write_json(output, benchmark.to_json())
        click.echo(f"results in {output}", err=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON whole or not at all.

    Raises:
        OutputError: the place cannot be written.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
        scratch.replace(path)
    except OSError as error:
        raise OutputError(f"output {path}: {error.strerror}; choose a file that can be written") from None
    finally:
        scratch.unlink(missing_ok=True)


def _check_output(path: Path) -> None:
    """Tell before a long measurement that its result has no place."""
    folder = path.parent
    if path.is_dir():
        raise OutputError(f"output {path} is a folder; give a file")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OutputError(f"output {path}: {folder} is no folder that can be written; choose another")


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on stderr."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ...runtime.report import console

    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("warm-up", total=None)

        def tick(label: str, done: int, total: int) -> None:
            bar.update(task, description=label, completed=done, total=total)

        yield tick
