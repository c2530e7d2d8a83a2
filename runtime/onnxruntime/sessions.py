"""The sessions of one loaded artifact on ONNX Runtime, over one mapping of its weights."""

from __future__ import annotations

from ...profiles.signature import Signature, step_signature
from ..artifact.artifact import Artifact
from ..artifact.manifest import Graphs
from ..artifact.weights import MappedWeights, check_precision, map_weights
from .graph_sessions import GraphSessions
from .options import OnnxRuntimeOptions
from .session import OnnxRuntimeSession


class OnnxRuntimeSessions(GraphSessions[OnnxRuntimeSession, MappedWeights]):
    """Those of the graphs for CPUs."""

    def __init__(self, artifact: Artifact, graphs: Graphs, options: OnnxRuntimeOptions) -> None:
        """Load the graphs.

        Args:
            artifact: what is run.
            graphs: those of its graphs that are for ONNX Runtime.
            options: how they are run.

        Raises:
            RequestError: an execution provider that this build of onnxruntime lacks.
            ArtifactError: a graph that does not load, or whose weights are no float32.
        """
        self._options = options
        check_precision(artifact, graphs)
        weights = artifact.weights(graphs)
        mapped = (map_weights(artifact, places) for places in (weights.decoder, weights.encoder))
        super().__init__(artifact, graphs, *mapped)

    @property
    def device(self) -> str:
        """The execution providers."""
        return ", ".join(self._options.providers)

    @property
    def steps(self) -> OnnxRuntimeSession:
        """The same session: its steps take several requests."""
        return self.decode

    def _step_signature(self) -> Signature:
        decoder = self._decoder
        fixed = decoder.step_inputs, self._graphs.prefix_type
        return step_signature(decoder.dims, *fixed, decoder.word_heads)

    def _load(self, graph: str, weights: MappedWeights, is_step: bool) -> OnnxRuntimeSession:
        """Only the graph that runs at every step is worth packed weights; the others work on many rows. But
        kernels of quantised weights want them packed: then what was read to pack them is needed no more.
        """
        quantized = bool(self._graphs.quantized)
        session = OnnxRuntimeSession(
            self._artifact.path(graph),
            weights,
            graph=self._artifact.read(graph),
            threads=self._options.threads,
            providers=self._options.providers,
            prepack=quantized or (self._options.prepack and is_step),
            shrink=not self._options.prepack and not is_step,
        )
        if quantized:
            weights.forget()
        return session
