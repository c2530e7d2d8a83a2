"""What is checked: the sessions of an artifact on one backend, by the name of the backend."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import onnx

from ...profiles.errors import RequestError
from ...runtime.artifact.artifact import Artifact
from ...runtime.artifact.weights import map_weights
from ...runtime.backends import open_sessions
from ...runtime.onnxruntime.session import OnnxRuntimeSession
from ...runtime.runtime_options import runtime_options
from ...runtime.session import Session
from ...runtime.sessions import Sessions
from ..model.families.family import reference_of
from .graphs import DECODE, ENCODER, GraphName, file_of
from .places import Place, output_places, places_of


class Backend(Protocol):
    """Opens each graph of one artifact, whole or with the values inside it as further outputs."""

    name: str
    precision: str  # key of TOLERANCES

    def session(self, graph: GraphName) -> Session:
        """The session that production runs."""

    def places(self, graph: GraphName) -> list[Place]:
        """Where the graph can be read, in the order of execution."""

    def tapped(self, graph: GraphName, places: Sequence[Place]) -> Session:
        """A session whose outputs are the values of these places."""


class OnnxRuntimeBackend:
    """The graphs on ONNX Runtime."""

    name, precision = "onnxruntime", "fp32"

    def __init__(self, artifact: Artifact) -> None:
        self._artifact = artifact
        self._sessions = open_sessions(artifact, self.name, runtime_options(self.name).options)

    def session(self, graph: GraphName) -> Session:
        """A session of the runtime's own loader."""
        return session_of(self._sessions, graph)

    def places(self, graph: GraphName) -> list[Place]:
        """Every place that the graph's node names tell."""
        manifest = self._artifact.manifest
        reference = reference_of(manifest.family)
        assert reference is not None, "there is nothing to compare places with"
        return places_of(graph, self._model(graph), manifest.decoder.dims, reference)

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


class TensorRTBackend:
    """The engines on the GPU that they were built for. Only their outputs can be read."""

    name = "tensorrt"

    def __init__(self, artifact: Artifact) -> None:
        self._dims = artifact.manifest.decoder.dims
        self._sessions = open_sessions(artifact, self.name, runtime_options(self.name).options)
        assert artifact.manifest.engines is not None  # or nothing was opened
        self.precision = artifact.manifest.engines.precision

    def session(self, graph: GraphName) -> Session:
        """A session of the runtime's own loader."""
        return session_of(self._sessions, graph)

    def places(self, graph: GraphName) -> list[Place]:
        """Keys, values and scores, which are outputs."""
        return output_places(graph, self._dims)

    def tapped(self, graph: GraphName, places: Sequence[Place]) -> Session:
        """The session itself, which has them."""
        return self.session(graph)


def session_of(sessions: Sessions, graph: GraphName) -> Session:
    """The session of one graph."""
    if graph.profile is not None:
        return sessions.prefill(graph.profile)
    return sessions.encoder if graph == ENCODER else sessions.decode


BACKENDS: dict[str, Callable[[Artifact], Backend]] = {
    "onnxruntime": OnnxRuntimeBackend,
    "tensorrt": TensorRTBackend,
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
