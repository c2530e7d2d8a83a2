"""`fastadasp-export transcribe`: many clips in, a line of JSON for each out, however often it is stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...evaluation.bulk.options import TranscribeOptions
from ...profiles.errors import OutputError
from ...runtime.runtime_options import runtime_options as runtime_of
from ..file import is_stream
from .command import Command, StrictCommand
from .lists import NAMES, one_option
from .output import check_output, what_goes_on
from .parameters import (
    PATH,
    auto_of,
    auto_options,
    backend_options_of,
    batch_option,
    require,
    runtime_options,
    verify_of,
)
from .progress import progress_bar
from .search_parameters import say_search, search_of, search_options
from .timed import cutting_options, refuse_without_segments, segmenting_of

if TYPE_CHECKING:
    from ...evaluation.bulk.transcribe import MakeEngine, Summary

DEFAULTS = TranscribeOptions()


def _cutting_options(command: Command) -> Command:
    text = "Cut clips that are longer than a segment at pauses; each stretch of speech has its times."
    return cutting_options(command, text)


def _local() -> MakeEngine:
    from ...evaluation.bulk.local import LocalEngine

    return LocalEngine


def _ray() -> MakeEngine:
    require("ray", extra="ray")
    from ...serving.ray.bulk import RayEngine

    return RayEngine


ENGINES: dict[str, Callable[[], MakeEngine]] = {"local": _local, "ray": _ray}


@click.command(cls=StrictCommand, short_help="Answer many clips into a file; resumable.")
@click.argument("artifact", type=PATH)
@click.argument("clips", type=PATH)
@click.option(
    "-o", "--output", type=PATH, required=True, metavar="FILE", help="Answers, one JSON object per line."
)
@one_option(
    "--profile",
    "profile",
    NAMES,
    "A profile of the artifact, or auto, with a budget.  [default: its first one]",
    instead="run the command for each, with an output of its own",
)
@auto_options
@click.option(
    "--prompt", metavar="TEXT", help="Text of the requests that have none.  [default: the artifact's]"
)
@click.option("--system", metavar="TEXT", help="System text, where the model's template has a place for it.")
@click.option(
    "--audio-root", type=PATH, metavar="DIR", help="Where audio paths begin.  [default: the clip list's]"
)
@click.option(
    "--workers",
    type=int,
    default=DEFAULTS.workers,
    help="Processes that share the clips.  [default: one per core, at most 8; one for a GPU]",
)
@batch_option
@_cutting_options
@click.option(
    "--engine",
    type=click.Choice(list(ENGINES)),
    default=next(iter(ENGINES)),
    show_default=True,
    help="Where the workers are: processes of this machine, or actors of Ray (RAY_ADDRESS names a cluster).",
)
@click.option("--retry-failed", is_flag=True, help="Try again what has failed before.")
@click.option("--restart", is_flag=True, help="Forget all that FILE holds.")
@search_options("artifact")
@runtime_options
@click.pass_context
def transcribe(ctx: click.Context, /, artifact: Path, clips: Path, output: Path, **values: Any) -> None:
    """Answer all CLIPS with ARTIFACT: a clip list (JSONL), a folder of audio, or one file of audio.

    Every clip gets one line in FILE as soon as it is answered, or one in FILE.failed.jsonl with the reason.
    The same command goes on where it was stopped or killed; a clip that has a line is not done again. Exits
    with 0 if all clips have an answer, with 1 if some have none, and with 2 if it could not begin or go on.
    With --segments clips may be of any length: those that are longer than a segment are cut at pauses.
    With --profile auto the profile is chosen for the length of each clip, by a budget and the figures that
    ARTIFACT holds (figures ART); its line says which one and why.
    """
    if not values["segments"]:
        refuse_without_segments(values)
    options, engine = _options(values), ENGINES[values["engine"]]()
    if is_stream(output):
        raise OutputError(f"output {output} is no file, so nothing could go on from it; give a file")
    from ...evaluation.bulk.output import Start, failures_of, settings_of
    from ...evaluation.bulk.transcribe import transcribe as answer
    from ...evaluation.clips.files import files_of
    from ...evaluation.clips.requests import read_requests

    requests = read_requests(clips, audio_root=values["audio_root"], prompt=values["prompt"])
    check_output(output, (artifact, *files_of(requests)), (failures_of, settings_of))
    start, done = Start(values["retry_failed"], values["restart"]), 0

    def tick(step: str, clips: int, total: int) -> None:
        nonlocal done
        done = clips
        show(step, clips, total)

    try:
        with progress_bar("load") as show:
            found = answer(
                *(artifact, requests, output, options, tick),
                start=start,
                verify=verify_of(values["verify"]),
                engine=engine,
            )
    except (KeyboardInterrupt, SystemExit):
        told = f"{done} of {len(requests.clips)} clips are done and kept; {what_goes_on()} with the others"
        click.echo(f"stopped: {told}", err=True)
        raise
    say_search(options.search, found.search)
    _say(found, output)
    ctx.exit(1 if found.failed else 0)


def _options(values: dict[str, Any]) -> TranscribeOptions:
    return TranscribeOptions(
        profile=auto_of(values) or values["profile"],
        system=values["system"],
        search=search_of(values),
        runtime=runtime_of(values["backend"], **backend_options_of(values)),
        segmenting=segmenting_of(values) if values["segments"] else None,
        workers=values["workers"],
    )


def _say(found: Summary, output: Path) -> None:
    """What was done, in a few lines on stderr."""
    from ...evaluation.bulk.output import failures_of
    from ...runtime.tables.units import factor, seconds

    for each in found.reasons:
        click.echo(f"Error: {each.id}: {each.error}", err=True)
    if more := found.unshown:
        click.echo(f"and {more} more, in {failures_of(output)}", err=True)
    clips = f"{found.clips} clip{'s' * (found.clips != 1)}"
    before = f", {found.before} before" * bool(found.before)
    click.echo(f"{clips}: {found.answered} answered{before}, {found.failed} failed", err=True)
    if found.answered:
        speed = factor(found.audio_seconds / found.seconds)
        heard = f"{seconds(found.audio_seconds)} s of audio in {seconds(found.seconds)} s"
        click.echo(f"{heard}, loading included: {speed} times real time", err=True)
    click.echo(f"answers in {output}", err=True)
    if found.failed:
        click.echo(f"failures in {failures_of(output)}; --retry-failed tries them again", err=True)
