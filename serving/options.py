"""How a server is started, checked once; quick to import, for a command line's defaults."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..profiles.errors import RequestError
from ..profiles.faults import count_faults, is_unicode, shown, text_fault
from ..runtime.backend_options import MOST_THREADS, CpuOptions
from ..runtime.choice.target import Auto
from ..runtime.runtime_options import RuntimeOptions

DEFAULT_RUNTIME = RuntimeOptions()
MOST_DEFAULT_WORKERS = 8  # each holds its own packed copy of the decoder's weights
MOST_SECONDS = 1e6
_LEAST = {"port": 0, "workers": 0, "max_queue": 0, "max_upload_bytes": 1}
_MOST = {"port": 65535, "workers": MOST_THREADS, "max_queue": 100_000, "max_upload_bytes": 1 << 40}
_SECONDS = ("max_audio_seconds", "whole_seconds", "deadline", "hang_seconds", "drain_seconds")
LEAST_HANG = 1.0  # seconds: a worker may be busy for less
LEAST_KEY = 16  # characters: fewer can be guessed


@dataclass(frozen=True)
class ServeOptions:
    """Where a server listens, and what it takes. Raises RequestError with every fault."""

    host: str = "127.0.0.1"
    port: int = 8000  # 0: one that is free
    workers: int = 0  # processes that each load the artifact; 0: one a core, up to 8, or one for a GPU
    runtime: RuntimeOptions = DEFAULT_RUNTIME  # without threads, each worker has one
    max_queue: int = 64  # requests that may wait beside those that run
    api_keys: tuple[str, ...] = ()
    name: str | None = None  # of the model; that of the artifact's folder if None
    profile: str | None = None  # of the model's name alone, or auto; the artifact's first one if None
    auto: Auto | None = None  # what a profile is chosen for, where requests for auto do not say it
    prompt: str | None = None  # of requests that have none; {language} stands for the field of that name
    translation_prompt: str | None = None  # of translations that have none
    max_upload_bytes: int = 25 << 20
    max_audio_seconds: float = 7200.0
    whole_seconds: float | None = None  # longer audio is answered in segments; None: longer than a window
    deadline: float = 600.0  # seconds from the end of the upload to the answer, waiting included
    hang_seconds: float = 30.0  # after which a worker that says nothing is replaced
    drain_seconds: float = 30.0  # that requests under way have when the server is told to end

    @property
    def num_workers(self) -> int:
        """Processes to start."""
        if self.workers:
            return self.workers
        from ..evaluation.answers.workers import usable_cores

        on_cpu = isinstance(self.runtime.options, CpuOptions)
        return min(usable_cores(), MOST_DEFAULT_WORKERS) if on_cpu else 1

    @property
    def is_public(self) -> bool:
        """Whether other machines may reach it."""
        return not is_loopback(self.host)

    def __post_init__(self) -> None:
        if faults := list(self._faults()):
            raise RequestError("; ".join(faults))

    def _faults(self) -> Iterator[str]:
        yield from count_faults(self, _LEAST, _MOST)
        for name in _SECONDS:
            value = getattr(self, name)
            if not (name == "whole_seconds" and value is None) and not _is_seconds(value):
                yield f"{name} is {shown(value)}: give seconds, above 0"
        if _is_seconds(self.hang_seconds) and self.hang_seconds < LEAST_HANG:
            yield f"hang_seconds is {shown(self.hang_seconds)}: give at least {LEAST_HANG:g} s"
        for name in ("profile", "prompt", "translation_prompt"):
            if (text := getattr(self, name)) is not None:
                yield from text_fault(name, text)
        if self.name is not None and not is_model_name(self.name):
            yield f"name is {shown(self.name)}: give printable characters without spaces"
        yield from self._key_faults()

    def _key_faults(self) -> Iterator[str]:
        if any(len(key) < LEAST_KEY or not key.isascii() or not key.isprintable() for key in self.api_keys):
            yield f"an API key has less than {LEAST_KEY} characters, or other characters than those of ASCII"
        if not self.api_keys and self.is_public:
            yield (
                f"host is {shown(self.host)}, which other machines may reach, and there is no key: give "
                "--api-key-file with a key, or --host 127.0.0.1"
            )


def is_loopback(host: str) -> bool:
    """Whether an address is of this machine alone; a name other than localhost may be of any."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_model_name(name: object) -> bool:
    """Whether a model can be called so."""
    return isinstance(name, str) and 0 < len(name) <= 200 and name.isprintable() and " " not in name


def keys_of(path: Path) -> tuple[str, ...]:
    """The keys of a file: one a line; empty lines and those that begin with # count for nothing.

    Raises:
        RequestError: there is none.
        OSError: the file cannot be read.
    """
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    if not is_unicode(text):
        raise RequestError(f"API keys {path}: it is no text of UTF-8; give one key a line")
    lines = (line.strip() for line in text.splitlines())
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    if not keys:
        raise RequestError(
            f"API keys {path}: it holds none; give one key a line, such as of openssl rand -hex 32"
        )
    return keys


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= MOST_SECONDS
