"""The backends of the runtime: what each one opens for an artifact."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..profiles.errors import RequestError
from .runtime_options import RuntimeOptions

if TYPE_CHECKING:  # light to import: the command line takes its names from here
    from .artifact.artifact import Artifact
    from .sessions import Sessions


def _onnxruntime(artifact: Artifact, options: RuntimeOptions) -> Sessions:
    from .onnxruntime.sessions import OnnxRuntimeSessions

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
