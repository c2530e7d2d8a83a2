"""Options of how clips are answered and measured, for the commands that evaluate."""

from __future__ import annotations

from typing import Any

import click

from ...evaluation.metrics.normalizers import NORMALIZERS
from ...evaluation.metrics.tasks import TASKS
from ...evaluation.options import EvalOptions
from ...runtime.runtime_options import DEFAULT_BACKEND, runtime_options
from .command import Command
from .parameters import backend_options_of, require_all, search_of

DEFAULTS = EvalOptions()
NORMALIZER_OF_TASK = ", ".join(f"{name} {task.normalizer}" for name, task in TASKS.items())


def evaluation_options(command: Command) -> Command:
    """Add the options of `EvalOptions` that are neither of the search nor of the runtime."""
    options = (
        click.option(
            "--normalizer",
            type=click.Choice(list(NORMALIZERS)),
            help=f"What is done to texts before they are compared.  [default: {NORMALIZER_OF_TASK}]",
        ),
        click.option(
            "--resamples", type=int, default=DEFAULTS.resamples, show_default=True, help="Of the bootstrap."
        ),
        click.option("--seed", type=int, default=DEFAULTS.seed, show_default=True, help="Of the bootstrap."),
        click.option(
            "--workers",
            type=int,
            default=DEFAULTS.workers,
            show_default=True,
            help="Processes that share the clips.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def evaluation_of(values: dict[str, Any]) -> EvalOptions:
    """The options among the values of a command, checked before anything is loaded."""
    own = {name: values[name] for name in ("normalizer", "resamples", "seed", "workers")}
    return EvalOptions(
        profiles=values.get("profiles", ()),
        search=search_of(values),
        runtime=runtime_options(values.get("backend", DEFAULT_BACKEND), **backend_options_of(values)),
        **own,
    )


def require_metrics(task: str, options: EvalOptions, **others: tuple[str, ...]) -> None:
    """Refuse to go on without the packages of the metrics and the normaliser, and those of other extras.

    Raises:
        DependencyError: some are missing.
    """
    normalizer = NORMALIZERS[options.normalizer_for(task)]
    require_all({**others, "accuracy": (*TASKS[task].packages, *normalizer.packages)})
