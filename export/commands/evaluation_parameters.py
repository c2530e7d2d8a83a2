"""Options of clips, and of how they are answered and measured, for the commands that evaluate."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import click

from ...evaluation.metrics.normalizers import NORMALIZERS
from ...evaluation.metrics.scripts import are_unspaced
from ...evaluation.metrics.tasks import TASKS
from ...evaluation.options import EvalOptions, is_budget
from ...profiles.errors import RequestError
from ...runtime.runtime_options import DEFAULT_BACKEND, MOST_BATCH, runtime_options
from .command import Command, with_options
from .parameters import AUDIO_SECONDS, PATH, backend_options_of, require_all
from .search_parameters import search_of

if TYPE_CHECKING:
    from ...evaluation.clips.clip import ClipSet

DEFAULTS = EvalOptions()
WER_TASK = "asr"
NORMALIZER_OF_TASK = ", ".join(f"{name} {task.normalizer}" for name, task in TASKS.items())


def exact(ctx: click.Context, param: click.Parameter, value: float | None) -> Fraction | None:
    """A callback that takes a number as it was typed, if it was: 0.1 is one tenth."""
    return None if value is None else Fraction(repr(value))


def clip_options(command: Command) -> Command:
    """Add the options of `read_clips`: what clips with references are there, and which of them are meant."""
    options = (
        click.option(
            "--manifest",
            type=PATH,
            required=True,
            metavar="FILE",
            help="Clips, one JSON object per line; or a folder of audio and .txt transcripts.",
        ),
        click.option(
            "--audio-root",
            type=PATH,
            metavar="DIR",
            help="Where audio paths begin.  [default: the clip list's]",
        ),
        click.option(
            "--task", type=click.Choice(list(TASKS)), help="Which clips.  [default: all, if of one task]"
        ),
        click.option(
            "--prompt", default="", metavar="TEXT", help="Text of the requests that have none of their own."
        ),
    )
    return with_options(command, options)


def clips_of(values: dict[str, Any]) -> ClipSet:
    """The clips that those options mean.

    Raises:
        ClipsError: with every fault of the clip list.
    """
    from ...evaluation.clips.read import read_clips

    return read_clips(
        values["manifest"], values["task"], audio_root=values["audio_root"], prompt=values["prompt"]
    )


def budget_options(command: Command) -> Command:
    """Add the budget of accuracy, in either of its names."""
    options = (
        click.option(
            "--max-wer-increase",
            type=float,
            metavar="POINTS",
            help="Budget of asr: points of WER that may be lost.",
        ),
        click.option(
            "--max-loss",
            type=float,
            metavar="POINTS",
            help="Budget of any task, in points of its first metric as eval shows them.",
        ),
    )
    return with_options(command, options)


def untimed_options(command: Command) -> Command:
    """Add what measures more, or sooner, than requests that are answered alone, whose times are lost."""
    options = (
        click.option(
            "--token-loss",
            is_flag=True,
            help="Measure the loss per token of the first reference, too: one more row in every step.",
        ),
        click.option(
            "--at-once",
            type=click.IntRange(1, MOST_BATCH),
            default=DEFAULTS.at_once,
            show_default=True,
            help="Profiles of a clip that share decode steps, which is faster.",
        ),
    )
    return with_options(command, options)


def budget_of(values: dict[str, Any]) -> float | None:
    """The budget that was given, if one was.

    Raises:
        RequestError: both were, or one that is none by its other name.
    """
    budgets = [values[key] for key in ("max_wer_increase", "max_loss") if values[key] is not None]
    if len(budgets) > 1:
        raise RequestError("give the budget once: --max-wer-increase for asr, or --max-loss for any task")
    wer = values["max_wer_increase"]
    if wer is not None and not is_budget(wer):
        raise RequestError(f"max_wer_increase is {wer}: give a number of points from 0 on")
    return budgets[0] if budgets else None


def check_budget(values: dict[str, Any], clips: ClipSet) -> None:
    """Refuse a budget of WER for clips that have none; RequestError."""
    if values["max_wer_increase"] is None:
        return
    if clips.task != WER_TASK:
        raise RequestError(
            f"--max-wer-increase is of {WER_TASK}; the clips are of {clips.task}: give --max-loss"
        )
    if are_unspaced(text for clip in clips.clips for text in clip.references):
        raise RequestError(
            "--max-wer-increase is of words, and most of the references have no blanks between them: "
            "give --max-loss, which is of CER then"
        )


def least_recordings_option(command: Command) -> Command:
    """Add with clips of how many recordings a profile may be found to be within its budget."""
    return click.option(
        "--least-recordings",
        type=int,
        default=DEFAULTS.least_recordings,
        show_default=True,
        help="With clips of fewer recordings, no profile is found to be within its budget.",
    )(command)


def reference_option(command: Command) -> Command:
    """Add the length of audio for which FLOPs levels are met."""
    return click.option(
        "--reference-seconds",
        type=AUDIO_SECONDS,
        callback=exact,
        metavar="S",
        help="Length of audio for which ratios are solved.  [default: the mean of the clips]",
    )(command)


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
    return with_options(command, options)


def evaluation_of(values: dict[str, Any]) -> EvalOptions:
    """The options among the values of a command, checked before anything is loaded."""
    own = {name: values[name] for name in ("normalizer", "resamples", "seed", "workers")}
    own |= {name: values[name] for name in ("token_loss", "at_once") if name in values}
    return EvalOptions(
        profiles=values.get("profiles", ()),
        search=search_of(values),
        runtime=runtime_options(values.get("backend", DEFAULT_BACKEND), **backend_options_of(values)),
        **own,
    )


def require_metrics(clips: ClipSet, options: EvalOptions, **others: tuple[str, ...]) -> None:
    """Refuse to go on without all that the metrics need of the clips and of packages, and other extras.

    Raises:
        ClipsError: as `check_metrics`.
        DependencyError: packages are missing.
    """
    normalizer = NORMALIZERS[options.normalizer_for(clips.task)]
    require_all({**others, "accuracy": (*TASKS[clips.task].packages, *normalizer.packages)})
    from ...evaluation.answering import check_metrics

    check_metrics(clips, options)
