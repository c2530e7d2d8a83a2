"""`fastadasp-export serve`: an artifact behind HTTP, as OpenAI's clients speak it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ...runtime.runtime_options import runtime_options as runtime_of
from ...serving.options import ServeOptions, keys_of
from .command import Command, StrictCommand
from .lists import NAMES, one_option
from .parameters import (
    PATH,
    Bytes,
    auto_options,
    backend_options_of,
    batch_option,
    budgets_of,
    require,
    runtime_options,
    verify_of,
)

DEFAULTS = ServeOptions()
OF_THE_SERVER = (
    *("host", "port", "workers", "max_queue", "name", "profile", "prompt", "translation_prompt"),
    *("max_upload_bytes", "max_audio_seconds", "whole_seconds", "deadline", "hang_seconds", "drain_seconds"),
)


def _seconds(flag: str, field: str, words: str) -> Callable[[Command], Command]:
    default = getattr(DEFAULTS, field)
    return click.option(flag, field, type=float, default=default, show_default=True, metavar="S", help=words)


@click.command(cls=StrictCommand, short_help="Serve an artifact to OpenAI's clients.")
@click.argument("artifact", type=PATH)
@click.option("--host", default=DEFAULTS.host, show_default=True, help="Address to listen at.")
@click.option(
    "--port", type=int, default=DEFAULTS.port, show_default=True, help="Port; 0 takes one that is free."
)
@click.option(
    "--api-key-file", type=PATH, metavar="FILE", help="Keys, one per line; clients must send one of them."
)
@click.option("--name", help="Name of the model.  [default: that of ARTIFACT's folder]")
@one_option(
    "--profile",
    "profile",
    NAMES,
    "Profile of the name alone, or auto.  [default: the first one]",
    instead="all profiles are served, as NAME:PROFILE",
)
@auto_options
@click.option("--prompt", metavar="TEXT", help="Text of requests that have none.  [default: the artifact's]")
@click.option(
    "--translation-prompt", metavar="TEXT", help="The same of translations.  [default: they must have one]"
)
@click.option(
    "--workers",
    type=int,
    default=DEFAULTS.workers,
    help="Processes that answer; 0: one per core, at most 8, or one for a GPU.  [default: 0]",
)
@batch_option
@click.option(
    "--max-queue",
    type=int,
    default=DEFAULTS.max_queue,
    show_default=True,
    help="Requests that may wait beside those that run; others are told to come again.",
)
@click.option(
    "--max-upload",
    "max_upload_bytes",
    type=Bytes(),
    metavar="SIZE",
    default=DEFAULTS.max_upload_bytes,
    help="Largest audio file.  [default: 25MiB]",
)
@_seconds("--max-audio-seconds", "max_audio_seconds", "Longest audio.")
@click.option(
    "--whole-seconds",
    type=float,
    metavar="S",
    help="Answer longer audio in segments.  [default: one window of the model]",
)
@_seconds("--deadline", "deadline", "Give up on a request after so long.")
@_seconds("--hang-seconds", "hang_seconds", "Replace a worker that has said nothing for so long.")
@_seconds("--drain-seconds", "drain_seconds", "When told to end, wait so long for requests under way.")
@runtime_options
def serve(artifact: Path, **values: Any) -> None:
    """Serve ARTIFACT to OpenAI's clients over HTTP: transcriptions, translations, chat about audio.

    Each profile is a model, NAME:PROFILE. Audio of any length is taken; long audio is answered in segments.
    NAME:auto has a profile chosen for the length of the audio, by the figures that ARTIFACT holds and a
    budget: that of the request, or the one that is given here; the answer says which one and why.
    Without keys only this machine is served. SIGTERM or Ctrl-C ends the server, requests under way first.
    """
    require("starlette", "uvicorn", "python_multipart", "prometheus_client", extra="serve")
    keys = keys_of(values["api_key_file"]) if values["api_key_file"] else ()
    runtime = runtime_of(values["backend"], **backend_options_of(values))
    options = ServeOptions(
        runtime=runtime,
        api_keys=keys,
        auto=budgets_of(values),
        **{field: values[field] for field in OF_THE_SERVER},
    )
    from ...serving.server import serve as serve_artifact

    serve_artifact(artifact, options, click.echo, verify=verify_of(values["verify"]))
