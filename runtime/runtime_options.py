"""How an artifact is run: on which backend, with which of its options. Quick to import."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypedDict, Unpack

from ..profiles.errors import RequestError
from ..profiles.faults import count_fault, is_count, shown
from .backend_options import BackendOptions, CpuOptions
from .backends import BACKENDS, backend_named
from .onnxruntime.options import OnnxRuntimeOptions

MOST_BATCH = 128  # requests that share a step; its products gain nothing from more rows far below
DEFAULT_BACKEND, DEFAULT_OPTIONS = "onnxruntime", OnnxRuntimeOptions()


@dataclass(frozen=True)
class RuntimeOptions:
    """How an artifact is run; `runtime_options` makes one from keywords.

    Raises:
        RequestError: an unknown backend, or options of another one.
    """

    backend: str = DEFAULT_BACKEND
    options: BackendOptions = DEFAULT_OPTIONS
    max_request_bytes: int | None = None  # that one request may add to the loaded model; None: no limit
    max_batch: int = 8  # submitted requests that run at once, and share decode steps where the backend can
    max_queue: int | None = None  # submitted requests that may wait beside them; None: any number

    def __post_init__(self) -> None:
        if faults := list(self._faults()):
            raise RequestError("; ".join(faults))
        kind = backend_named(self.backend).options
        if not isinstance(self.options, kind):
            raise RequestError(
                f"backend {self.backend} takes {kind.__name__}, not {type(self.options).__name__}"
            )

    def _faults(self) -> Iterator[str]:
        if self.max_request_bytes is not None and not is_count(self.max_request_bytes, 1):
            yield f"max_request_bytes is {shown(self.max_request_bytes)}: give a whole number above 0"
        yield from count_fault("max_batch", self.max_batch, 1, MOST_BATCH)
        if self.max_queue is not None and not is_count(self.max_queue, 0):
            yield f"max_queue is {shown(self.max_queue)}: give a whole number, or None"

    @property
    def threads(self) -> int:
        """CPU threads of one run; 0 where the backend takes one per core, or does not compute on the CPU."""
        return self.options.threads if isinstance(self.options, CpuOptions) else 0

    def sharing(self, cores: int) -> RuntimeOptions:
        """The same for a process that has a share of the cores, unless a number of threads was given."""
        if not isinstance(self.options, CpuOptions) or self.options.threads:
            return self
        return replace(self, options=replace(self.options, threads=cores))

    def recorded(self) -> dict[str, Any]:
        """What an answer depends on, as result files keep it."""
        limit = {} if self.max_request_bytes is None else {"max_request_bytes": self.max_request_bytes}
        return {"backend": self.backend, **self.options.recorded(), **limit}


class BackendKeywords(TypedDict, total=False):
    """The options of all backends by keyword; the record of a backend says which ones it has."""

    threads: int
    providers: Sequence[str]
    prepack: bool
    device: str
    strict: bool
    cuda_graph: bool
    precision: str


class RuntimeKeywords(BackendKeywords, total=False):
    """Those, and what every backend takes."""

    max_request_bytes: int | None  # those of `RuntimeOptions`
    max_batch: int
    max_queue: int | None


COMMON = tuple(RuntimeKeywords.__annotations__.keys() - BackendKeywords.__annotations__.keys())


def runtime_options(backend: str = DEFAULT_BACKEND, **given: Unpack[RuntimeKeywords]) -> RuntimeOptions:
    """A backend with options by keyword; lists become tuples.

    Raises:
        RequestError: an unknown backend, an option that it does not have, or a value out of range.
    """
    common: dict[str, Any] = {name: value for name, value in given.items() if name in COMMON}
    own = {name: value for name, value in given.items() if name not in COMMON}
    kind = backend_named(backend).options
    known = {field.name for field in fields(kind)}
    if lacking := [name for name in own if name not in known]:
        has = _listed(field.name for field in fields(kind)) or "none"
        raise RequestError(
            f"{_listed(lacking)}: no option of the backend {backend}, which has {has}; leave it out"
        )
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in own.items()}
    return RuntimeOptions(backend, kind(**values), **common)


def _listed(names: Iterable[str]) -> str:
    """Options as people write them in Python, and on the command line where they have another name there."""
    every = [field for backend in BACKENDS.values() for field in fields(backend.options)]
    flags = {field.name: field.metadata["flag"] for field in every if "flag" in field.metadata}
    return ", ".join(f"{name} ({flags[name]})" if name in flags else name for name in names)
