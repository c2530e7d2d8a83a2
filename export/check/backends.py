"""What is checked: the sessions of an artifact on one backend, by the name of the backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from ...runtime.artifact.artifact import Artifact
from ...runtime.artifact.weights import Array, map_weights
from ...runtime.backends import backend_named, open_sessions
from ...runtime.session import Session, StepSession
from ...runtime.sessions import Sessions
from ..model.families.family import reference_of
from ..targets import TARGETS
from .graphs import DECODE, ENCODER, GraphName, file_of
from .options import has_option
from .places import Place, output_places, places_of
from .sessions.step_of_one import MOST, StepOfOne, step_outputs

OpenGraph = Callable[[Path, bytes, Mapping[str, Array], bool], StepSession]
"""Opens a graph in the place of a file, over mapped weights, for the decode step or for another."""


def _onnxruntime(path: Path, graph: bytes, weights: Mapping[str, Array], is_step: bool) -> StepSession:
    from ...runtime.onnxruntime.session import OnnxRuntimeSession

    return OnnxRuntimeSession(path, weights, graph=graph, prepack=is_step)


READ_INSIDE: dict[str, OpenGraph] = {"onnxruntime": _onnxruntime}
"""Backends that can run a graph with further outputs. Of all others, only what production returns is read."""


NO_OPTIONS: Mapping[str, str] = {}


class CheckedBackend:
    """The graphs of an artifact on one backend, whole or with the values inside them as further outputs."""

    def __init__(self, name: str, artifact: Artifact, options: Mapping[str, str] = NO_OPTIONS) -> None:
        """Open what production runs, with the backend's own defaults but for those of `options` that it has.

        Raises:
            RequestError: there is no such backend or device.
            DependencyError: a package that the backend needs is missing.
            ArtifactError: the artifact has no graphs for it.
            EngineError: this machine cannot run its engines.
        """
        backend = backend_named(name)
        self.name, self._artifact, self._target = name, artifact, backend.target
        chosen: dict[str, Any] = {key: value for key, value in options.items() if has_option(name, key)}
        self._sessions = open_sessions(artifact, name, backend.options(**chosen))
        self._precision = self._sessions.precision
        self._of_steps = self._precision
        if not self._sessions.planned:
            graphs = artifact.graphs(self._target)
            rounds = graphs.quantized if TARGETS[self._target].rounds_rows else graphs.precision
            self._of_steps = rounds or graphs.arithmetic
            if self._precision == graphs.precision or rounds:
                self._precision = self._of_steps

    def precision(self, graph: GraphName) -> str:
        """What a graph is computed in: a key of TOLERANCES."""
        return self._of_steps if graph == DECODE else self._precision

    @property
    def shares_steps(self) -> bool:
        """Whether steps of its decode graph take several requests."""
        return self._sessions.steps is not None

    def session(self, graph: GraphName) -> Session:
        """The session that production runs."""
        if graph == DECODE and self._sessions.steps:
            limits, dims = self._sessions.limits, self._artifact.manifest.decoder.dims
            most = min(MOST, limits.max_batch) if limits else MOST
            return StepOfOne(self._sessions.steps, dims, most=most)
        return session_of(self._sessions, graph)

    def places(self, graph: GraphName) -> list[Place]:
        """Where the graph can be read, in the order of execution."""
        manifest = self._artifact.manifest
        if self.name not in READ_INSIDE:
            return output_places(graph, manifest.decoder.dims)
        reference = reference_of(manifest.family)
        assert reference is not None, "there is nothing to compare places with"
        return places_of(graph, self._model(graph), manifest.decoder.dims, reference)

    def tapped(self, graph: GraphName, places: Sequence[Place]) -> Session:
        """A session whose outputs are the values of these places, among others."""
        if self.name not in READ_INSIDE:
            return self.session(graph)
        from polygraphy.backend.onnx import modify_outputs

        weights = self._artifact.weights(self._artifact.graphs(self._target))
        table = weights.encoder if graph == ENCODER else weights.decoder
        values = [place.value for place in places]
        dims = self._artifact.manifest.decoder.dims
        if graph == DECODE:
            values = step_outputs(values, dims)
        model = modify_outputs(self._model(graph), values)
        path, content = self._artifact.path(self._file(graph)), model.SerializeToString()
        session = READ_INSIDE[self.name](path, content, map_weights(self._artifact, table), graph == DECODE)
        return StepOfOne(session, dims, most=1) if graph == DECODE else session

    def _model(self, graph: GraphName) -> onnx.ModelProto:
        return onnx.load_model_from_string(self._artifact.read(self._file(graph)))

    def _file(self, graph: GraphName) -> str:
        return file_of(graph, self._artifact.graphs(self._target))


def session_of(sessions: Sessions, graph: GraphName) -> Session:
    """The session of one graph."""
    if graph.profile is not None:
        return sessions.prefill(graph.profile)
    return sessions.encoder if graph == ENCODER else sessions.decode
