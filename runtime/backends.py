"""The backends of the runtime: what each one opens for an artifact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ..profiles.errors import RequestError

if TYPE_CHECKING:  # light to import: the command line takes its names from here
    from .artifact import Artifact
    from .engine_manifest import Engines
    from .session import Session

CPU = "CPUExecutionProvider"


@dataclass(frozen=True)
class RuntimeOptions:
    """How an artifact is run.

    All but `backend` are of ONNX Runtime.
    """

    backend: str = "onnxruntime"
    threads: int = 0  # of one run; 0 takes one a core
    providers: tuple[str, ...] = (CPU,)  # execution providers, the preferred one first
    prepack: bool = True  # keep a second copy of the decoder weights that makes beam steps faster


class Sessions(Protocol):
    """The sessions of one loaded artifact."""

    @property
    def encoder(self) -> Session:
        """One window of audio."""

    @property
    def decode(self) -> Session:
        """One step of all beams, for every profile."""

    @property
    def limits(self) -> Engines | None:
        """The sizes that the backend was built for; None where only the model limits them."""

    @property
    def device(self) -> str:
        """What the backend runs on, for people."""

    def prefill(self, profile: str) -> Session:
        """The prefill session of a profile of the artifact."""


def _onnxruntime(artifact: Artifact, options: RuntimeOptions) -> Sessions:
    from .sessions import OnnxRuntimeSessions

    return OnnxRuntimeSessions(artifact, options)


def _tensorrt(artifact: Artifact, options: RuntimeOptions) -> Sessions:
    defaults = RuntimeOptions()
    names = {"threads": "threads", "providers": "providers", "prepack": "prepack (--lean)"}
    if given := [text for name, text in names.items() if getattr(options, name) != getattr(defaults, name)]:
        raise RequestError(f"{', '.join(given)}: only the backend onnxruntime has this; leave it out")
    from .tensorrt.sessions import TensorRTSessions

    return TensorRTSessions(artifact)


BACKENDS: dict[str, Callable[[Artifact, RuntimeOptions], Sessions]] = {
    "onnxruntime": _onnxruntime,
    "tensorrt": _tensorrt,
}


def open_sessions(artifact: Artifact, options: RuntimeOptions) -> Sessions:
    """Load an artifact on a backend.

    Raises:
        RequestError: an unknown backend, or options that it does not have.
        ArtifactError: a graph or plan that does not load.
        EngineError: engines that do not fit this machine.
        DependencyError: a package that the backend needs is missing.
    """
    if options.backend not in BACKENDS:
        raise RequestError(f"backend {options.backend!r} is unknown; choose {', '.join(BACKENDS)}")
    return BACKENDS[options.backend](artifact, options)
