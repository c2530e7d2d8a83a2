"""What is checked: the sessions of an artifact on one backend, by the name of the backend."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import onnx

from ...profiles.errors import EngineError, RequestError
from ...runtime.artifact import Artifact
from ...runtime.onnxruntime_session import CPU, OnnxRuntimeSession
from ...runtime.session import Session
from ...runtime.sessions import Sessions
from ...runtime.weights import map_weights
from .graphs import DECODE, ENCODER, GraphName, file_of
from .places import Place, places_of


class Backend(Protocol):
    """Opens each graph of one artifact, whole or with the values inside it as further outputs."""

    name: str
    precision: str  # key of TOLERANCES

    def session(self, graph: GraphName) -> Session:
        """The session that production runs."""

    def places(self, graph: GraphName) -> list[Place]:
        """Where the graph can be read; empty if this backend cannot show what is inside."""

    def tapped(self, graph: GraphName, places: Sequence[Place]) -> Session:
        """A session whose outputs are the values of these places."""


class OnnxRuntimeBackend:
    """The graphs on ONNX Runtime."""

    name, precision = "onnxruntime", "fp32"

    def __init__(self, artifact: Artifact) -> None:
        self._artifact = artifact
        self._sessions = Sessions(artifact, threads=0, providers=(CPU,), prepack=True)

    def session(self, graph: GraphName) -> Session:
        """A session of the runtime's own loader."""
        if graph.profile is not None:
            return self._sessions.prefill(graph.profile)
        return self._sessions.encoder if graph == ENCODER else self._sessions.decode

    def places(self, graph: GraphName) -> list[Place]:
        """Every place that the graph's node names tell."""
        return places_of(graph, self._model(graph), self._artifact.manifest.decoder.dims)

    def tapped(self, graph: GraphName, places: Sequence[Place]) -> Session:
        """A copy of the graph with other outputs, over the same weights."""
        from polygraphy.backend.onnx import modify_outputs

        weights = self._artifact.manifest.weights
        places_in_files = weights.encoder if graph == ENCODER else weights.decoder
        model = modify_outputs(self._model(graph), [place.value for place in places])
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / file_of(graph, self._artifact.manifest)
            path.write_bytes(model.SerializeToString())
            for file in {place.file for place in places_in_files.values()}:
                _touch(Path(scratch) / file)
            return OnnxRuntimeSession(
                path, map_weights(self._artifact, places_in_files), prepack=graph == DECODE
            )

    def _model(self, graph: GraphName) -> onnx.ModelProto:
        path = self._artifact.path(file_of(graph, self._artifact.manifest))
        return onnx.load(str(path), load_external_data=False)


def _touch(file: Path) -> None:
    """ONNX Runtime wants weight files to exist, though the session hands it every weight from elsewhere."""
    file.parent.mkdir(exist_ok=True)
    file.touch()


def _tensorrt(artifact: Artifact) -> Backend:
    """Refuse by name, until the runtime has a session that runs engines."""
    if artifact.manifest.engines is None:
        raise EngineError(
            f"backend tensorrt: artifact {artifact.folder} has no engines; build it with --engine"
        )
    raise EngineError(
        f"backend tensorrt: this version cannot run the engines of {artifact.folder}; "
        "check its graphs with --backend onnxruntime"
    )


BACKENDS: dict[str, Callable[[Artifact], Backend]] = {
    "onnxruntime": OnnxRuntimeBackend,
    "tensorrt": _tensorrt,
}
"""Name -> what opens its sessions."""


def open_backend(name: str, artifact: Artifact) -> Backend:
    """The backend of a name.

    Raises:
        RequestError: there is none.
        EngineError: this machine cannot run its engines.
    """
    if name not in BACKENDS:
        raise RequestError(f"backend {name!r} is unknown; known: {', '.join(BACKENDS)}")
    return BACKENDS[name](artifact)
