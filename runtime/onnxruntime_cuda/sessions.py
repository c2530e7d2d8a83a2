"""The sessions of one loaded artifact on the CUDA provider, over one copy of its weights on the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...profiles.errors import RequestError
from ...profiles.signature import Signature, decode_signature
from ..artifact.artifact import Artifact
from ..artifact.manifest import Graphs, WeightPlace
from ..artifact.weights import map_weights
from ..onnxruntime.graph_sessions import GraphSessions
from .captured import turn
from .options import CPU, CUDA, OnnxRuntimeCudaOptions
from .provider import providers
from .session import OnnxRuntimeCudaSession
from .values import shared

BF16, FP32 = "bf16", "fp32"


class OnnxRuntimeCudaSessions(GraphSessions[OnnxRuntimeCudaSession, Mapping[str, Any]]):
    """Those of the graphs for CUDA."""

    steps = None  # each takes one request

    def __init__(self, artifact: Artifact, graphs: Graphs, options: OnnxRuntimeCudaOptions) -> None:
        """Load the graphs.

        Args:
            artifact: what is run.
            graphs: those of its graphs that are for this provider.
            options: how they are run.

        Raises:
            RequestError: the CPU, and graphs of bf16.
            DependencyError: this build of onnxruntime has no CUDA provider.
            EngineError: there is no device, or it does not take every node where that is asked for.
            ArtifactError: a graph that does not load.
        """
        providers(options, graphs.precision)  # before weights are read
        if options.kind == CPU and graphs.precision == BF16:
            raise RequestError(
                f"device {CPU}: ONNX Runtime has no products of {BF16} there; build for fp16 or fp32"
            )
        self._options = options
        weights = artifact.weights(graphs)
        on_device = (self._shared(artifact, places) for places in (weights.decoder, weights.encoder))
        super().__init__(artifact, graphs, *on_device)

    @property
    def device(self) -> str:
        """The device, if that is where ONNX Runtime says that the weights of the decoder are."""
        on_host = any(value.device_name() == CPU for value in self._decoder_weights.values())
        return CPU if on_host else f"{CUDA}:{self._options.number}"

    def _step_signature(self) -> Signature:
        decoder = self._decoder
        return decode_signature(decoder.dims, decoder.step_inputs, self._graphs.prefix_type, in_place=True)

    def _load(self, graph: str, weights: Mapping[str, Any], is_step: bool) -> OnnxRuntimeCudaSession:
        path, content = self._artifact.path(graph), self._artifact.read(graph)
        widest = FP32 if graph == self._graphs.wave_encoder else self.precision  # its first convolution
        return OnnxRuntimeCudaSession(path, content, weights, widest, self._options, is_step)

    def _shared(self, artifact: Artifact, places: Mapping[str, WeightPlace]) -> dict[str, Any]:
        """Weights on the device, by name; those of one copy alone are in memory at a time on the way."""
        with turn(self._options):
            return {name: shared(bits, self._options) for name, bits in map_weights(artifact, places).items()}
