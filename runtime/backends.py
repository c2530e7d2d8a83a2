"""The backends of the runtime: one row each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..profiles.errors import RequestError
from ..profiles.faults import shown
from .backend_options import BackendOptions
from .onnxruntime.options import OnnxRuntimeOptions
from .onnxruntime_cuda.options import OnnxRuntimeCudaOptions
from .openvino.options import OpenVinoOptions
from .tensorrt.options import TensorRTOptions

if TYPE_CHECKING:  # light to import: the command line takes its names from here
    from .artifact.artifact import Artifact
    from .sessions import Sessions


def _onnxruntime(artifact: Artifact, target: str, options: OnnxRuntimeOptions) -> Sessions:
    from .onnxruntime.sessions import OnnxRuntimeSessions

    return OnnxRuntimeSessions(artifact, artifact.graphs(target), options)


def _onnxruntime_cuda(artifact: Artifact, target: str, options: OnnxRuntimeCudaOptions) -> Sessions:
    from .onnxruntime_cuda.sessions import OnnxRuntimeCudaSessions

    return OnnxRuntimeCudaSessions(artifact, artifact.graphs(target), options)


def _openvino(artifact: Artifact, target: str, options: OpenVinoOptions) -> Sessions:
    from .openvino.sessions import OpenVinoSessions

    return OpenVinoSessions(artifact, artifact.graphs(target), options)


def _tensorrt(artifact: Artifact, target: str, options: TensorRTOptions) -> Sessions:
    from .tensorrt.sessions import TensorRTSessions

    return TensorRTSessions(artifact)


@dataclass(frozen=True)
class Backend:
    """What runs an artifact."""

    target: str  # the graphs that it runs are those for this target; tensorrt runs engines instead
    options: type[BackendOptions]
    open: Callable[[Artifact, str, Any], Sessions]  # of an artifact, for the target, with such options


BACKENDS = {
    "onnxruntime": Backend("onnxruntime", OnnxRuntimeOptions, _onnxruntime),
    "onnxruntime-cuda": Backend("onnxruntime-cuda", OnnxRuntimeCudaOptions, _onnxruntime_cuda),
    "openvino": Backend("openvino", OpenVinoOptions, _openvino),
    "tensorrt": Backend("tensorrt", TensorRTOptions, _tensorrt),
}


def backend_named(name: str) -> Backend:
    """The backend of a name.

    Raises:
        RequestError: there is none.
    """
    if not isinstance(name, str) or name not in BACKENDS:
        raise RequestError(f"backend {shown(name)} is unknown; choose {', '.join(BACKENDS)}")
    return BACKENDS[name]


def open_sessions(artifact: Artifact, backend: str, options: BackendOptions) -> Sessions:
    """Load an artifact on a backend.

    Raises:
        RequestError: an unknown backend, or an option that this machine does not have.
        ArtifactError: a graph or plan that is not there or does not load.
        EngineError: engines that do not fit this machine.
        DependencyError: a package that the backend needs is missing.
    """
    row = backend_named(backend)
    return row.open(artifact, row.target, options)
