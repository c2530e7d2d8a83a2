"""A server from its start to its end: address, workers, HTTP, and what is done when it is told to end."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..evaluation.answers.workers import Job
from ..profiles.errors import ArtifactError, RequestError
from ..runtime.artifact.artifact import NO_TOKENIZER, Artifact, open_artifact
from ..runtime.artifact.manifest import FILE_NAME
from ..runtime.artifact.verification import Verify
from ..runtime.choice.choose import complete
from ..runtime.choice.target import AUTO
from ..runtime.decoding.options import NOTHING_GIVEN
from ..runtime.tables.units import seconds, size
from .http.app import Api, build_app
from .http.guard import Limits
from .http.prompts import Prompts
from .http.served import Served
from .metrics import Metrics
from .models import Models
from .options import ServeOptions, is_model_name
from .pool.answering import AudioLimits
from .pool.pool import Pool
from .pool.worker import Plan

if TYPE_CHECKING:
    from starlette.types import ASGIApp
    from uvicorn import Server

LOGGER = logging.getLogger(__name__)
Say = Callable[[str], None]
BASE64 = 4 / 3  # bytes of a body / bytes of the audio in it
AROUND = 1 << 18  # bytes of a body beside the audio
HELD_UPLOADS = 40  # of the largest size, of all requests together
KEEP_ALIVE = 30  # seconds that an idle connection stays
UNREAD_SECONDS = 60.0  # that a client may take no byte of an answer, or be gone without a word
BACKLOG = 2048
ENDING = (signal.SIGTERM, signal.SIGINT)


def serve(folder: Path, options: ServeOptions, say: Say, *, verify: Verify = "cached") -> None:
    """Serve an artifact until SIGTERM or SIGINT; then requests under way are answered first.

    Args:
        folder: the artifact.
        options: where, and what is taken.
        say: prints a line.
        verify: when large files of the artifact are hashed.

    Raises:
        ArtifactError: missing, changed or of another version; without a tokenizer.
        RequestError: an unknown profile; an address that cannot be had.
        FastAdaSPError: what loading it raises.
    """
    begin = time.monotonic()
    artifact = open_artifact(folder, verify=verify)
    models = models_of(artifact, options)
    with _listening(options) as listener:
        asyncio.run(_serve(artifact, models, options, listener, verify, say, begin))


def models_of(artifact: Artifact, options: ServeOptions) -> Models:
    """What clients call the profiles of an artifact.

    Raises:
        ArtifactError: it has no tokenizer.
        RequestError: an unknown profile, or a folder whose name is none for a model; no figures to choose a
            profile by, and that is asked for.
    """
    folder, profiles = artifact.folder, tuple(artifact.manifest.profiles)
    if artifact.manifest.prompt is None or not artifact.has_tokenizer:
        raise ArtifactError(f"artifact {folder}: {NO_TOKENIZER}")
    default = profiles[0] if options.profile is None else options.profile
    if default not in (*profiles, AUTO):
        raise RequestError(f"profile {default} is not in {folder}; it has: {', '.join(profiles)}")
    figures = artifact.manifest.figures
    if options.auto is not None or default == AUTO:
        complete(figures)
    name = folder.resolve().name if options.name is None else options.name
    if not is_model_name(name):
        raise RequestError(f"artifact {folder}: clients cannot call a model {name!r}; give it a --name")
    tells_words = artifact.manifest.decoder.word_heads is not None
    return Models(name, profiles, default, figures, options.auto, tells_words)


async def _serve(
    artifact: Artifact,
    models: Models,
    options: ServeOptions,
    listener: socket.socket,
    verify: Verify,
    say: Say,
    begin: float,
) -> None:
    metrics = Metrics()
    runtime = options.runtime.sharing(1)
    job = Job(artifact.folder, artifact.manifest.digest, (models.loaded,), NOTHING_GIVEN, runtime, verify)
    plan = Plan(
        job, models, AudioLimits(options.max_audio_seconds, options.whole_seconds), options.hang_seconds
    )
    pool = Pool(plan, options.num_workers, options.max_queue, options.deadline, metrics)
    LOGGER.info("loading %s in %d worker processes", artifact.folder, options.num_workers)
    try:
        await pool.start()
        created = int((artifact.folder / FILE_NAME).stat().st_mtime)
        prompts = Prompts(options.prompt, options.translation_prompt)
        served = Served(models, prompts, options.max_upload_bytes, created)
        app = build_app(Api(pool, served, metrics), limits_of(options), metrics)
        server = _uvicorn(app, options)
        listener.listen(BACKLOG)
        for line in _lines(artifact, models, options, pool, listener):
            say(line)
        say(
            f"ready after {time.monotonic() - begin:.1f} s; SIGTERM or Ctrl-C ends it, with what is under way"
        )
        with _kept_signals():
            await server.serve(sockets=[listener])
    finally:
        await pool.close()
    say("ended")


def limits_of(options: ServeOptions) -> Limits:
    """What is taken of bodies."""
    largest = int(options.max_upload_bytes * BASE64) + AROUND
    return Limits(options.api_keys, largest, HELD_UPLOADS * largest, options.deadline)


def _uvicorn(app: ASGIApp, options: ServeOptions) -> Server:
    from uvicorn import Config, Server

    from .http.connection import Connection, most_connections

    config = Config(
        app,
        http=Connection,
        backlog=min(BACKLOG, most_connections()),  # so many are accepted at once, before any is refused
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=math.ceil(options.drain_seconds),
    )
    return Server(config)


@contextmanager
def _listening(options: ServeOptions) -> Iterator[socket.socket]:
    """A socket that has its address; it listens later, when there is somebody to answer."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise _no_address(options, error) from None
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # each connection has it from the listener
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNREAD_SECONDS * 1e3))
        try:
            listener.bind(address)
        except OSError as error:
            raise _no_address(options, error) from None
        yield listener


def _no_address(options: ServeOptions, error: OSError | UnicodeError) -> RequestError:
    why = error.strerror if isinstance(error, OSError) else "this is no name of a host"  # such as a..b
    return RequestError(
        f"host {options.host}, port {options.port}: {why}; give another --port, 0 for one that is free, "
        "or an address of this machine as --host"
    )


@contextmanager
def _kept_signals() -> Iterator[None]:
    """Uvicorn raises the signals that have ended it once more; then the end is a good one, and no kill."""
    before = {number: signal.signal(number, lambda *_: None) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _lines(
    artifact: Artifact, models: Models, options: ServeOptions, pool: Pool, listener: socket.socket
) -> Iterator[str]:
    """What is served, where, and within which limits."""
    facts, runtime = pool.facts, options.runtime.sharing(1)
    assert facts is not None, "workers are ready"
    yield f"models {', '.join(models.ids)}; {models.name} alone is the first"
    yield f"address {address_of(listener)}, {_who(options)}"
    threads = f" of {runtime.threads} thread{'s' * (runtime.threads != 1)}" if runtime.threads else ""
    processes = f"{options.num_workers} worker{'s' * (options.num_workers != 1)}"
    yield (
        f"{processes}{threads} on {facts.device}, each with up to {runtime.max_batch} requests at once; "
        f"{options.max_queue} may wait"
    )
    uploads, audio = size(options.max_upload_bytes), seconds(options.max_audio_seconds)
    whole = seconds(facts.whole_seconds)
    yield (
        f"uploads up to {uploads}, audio up to {audio} s, in segments beyond {whole} s; "
        f"answers within {seconds(options.deadline)} s"
    )
    taken = f"a request with {whole} s of audio"
    yield f"memory: {taken} adds up to {size(facts.request_bytes)} to a worker by greedy search"
    prompt = artifact.manifest.prompt
    if options.prompt is None and prompt is not None and not prompt.asks_by_itself:
        yield "hint: without --prompt, requests that have none are heard, and no question is asked about them"


def address_of(listener: socket.socket) -> str:
    """Where clients find it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"http://{host}:{port}"


def _who(options: ServeOptions) -> str:
    if options.api_keys:
        keys = len(options.api_keys)
        return f"for clients with {'the key' if keys == 1 else f'one of {keys} keys'}"
    return "for this machine alone, without a key"
