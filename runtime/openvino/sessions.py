"""The sessions of one loaded artifact: encoders and prefills on OpenVINO, decode steps on ONNX Runtime."""

from __future__ import annotations

from contextlib import ExitStack

from ...profiles.signature import Signature, step_signature
from ..artifact.artifact import Artifact
from ..artifact.manifest import Graphs
from ..artifact.weights import MappedWeights, check_precision, map_weights
from ..onnxruntime.graph_sessions import GraphSessions
from ..onnxruntime.session import OnnxRuntimeSession
from . import compiled
from .options import OpenVinoOptions
from .session import OpenVinoSession


class OpenVinoSessions(GraphSessions["OpenVinoSession | OnnxRuntimeSession", MappedWeights]):
    """Those of the graphs for OpenVINO."""

    unrolled = True

    def __init__(self, artifact: Artifact, graphs: Graphs, options: OpenVinoOptions) -> None:
        """Load the graphs.

        Args:
            artifact: what is run.
            graphs: those of its graphs that are for OpenVINO.
            options: how they are run.

        Raises:
            DependencyError: OpenVINO is missing.
            RequestError: a precision that this CPU does not have.
            ArtifactError: a graph that does not load, or whose weights are no float32.
        """
        compiled.check_precision(options)
        check_precision(artifact, graphs)
        self._options = options
        weights = artifact.weights(graphs)
        places = {**weights.encoder, **weights.decoder}
        self._weight_files = sorted({place.file for place in places.values()})
        super().__init__(artifact, graphs, map_weights(artifact, weights.decoder), MappedWeights({}, ()))

    @property
    def precision(self) -> str:
        """What encoders and prefills compute in."""
        return self._options.precision

    @property
    def device(self) -> str:
        """What runs which part."""
        return f"OpenVINO {compiled.DEVICE} {self.precision}, steps on ONNX Runtime"

    @property
    def steps(self) -> OnnxRuntimeSession:
        """The decode session: its steps take several requests."""
        assert isinstance(self.decode, OnnxRuntimeSession)
        return self.decode

    def _step_signature(self) -> Signature:
        decoder = self._decoder
        return step_signature(decoder.dims, decoder.step_inputs, self._graphs.prefix_type)

    def _load(
        self, graph: str, weights: MappedWeights, is_step: bool
    ) -> OpenVinoSession | OnnxRuntimeSession:
        if is_step or graph == self._graphs.prompt_adapter:
            return self._on_onnxruntime(graph, weights, is_step)
        with ExitStack() as held:  # OpenVINO opens the files by their paths: they are what the manifest says
            for name in (graph, *self._weight_files):
                held.enter_context(self._artifact.opened(name))
            return OpenVinoSession(self._artifact.path(graph), self._options)

    def _on_onnxruntime(self, graph: str, weights: MappedWeights, is_step: bool) -> OnnxRuntimeSession:
        quantized = bool(self._graphs.quantized)
        session = OnnxRuntimeSession(
            self._artifact.path(graph),
            weights,
            graph=self._artifact.read(graph),
            threads=self._options.threads,
            prepack=quantized or (self._options.prepack and is_step),
            shrink=not self._options.prepack and not is_step,
        )
        if quantized:
            weights.forget()
        return session
