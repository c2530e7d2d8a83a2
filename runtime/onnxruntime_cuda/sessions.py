"""The sessions of one loaded artifact on the CUDA provider, over one copy of its weights on the device."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from ...profiles.errors import RequestError
from ...profiles.signature import (
    Signature,
    decode_signature,
    encoder_signature,
    prefill_signature,
    prompt_adapter_signature,
    wave_encoder_signature,
)
from ..artifact.artifact import Artifact
from ..artifact.manifest import Decoder, Graphs, WeightPlace
from ..artifact.weights import map_weights
from .options import CPU, OnnxRuntimeCudaOptions
from .provider import providers
from .session import OnnxRuntimeCudaSession
from .values import shared

BF16 = "bf16"


class OnnxRuntimeCudaSessions:
    """Encoders and decode step at once, the other graphs when they are first asked for."""

    limits = None  # only the model's positions limit what the graphs take

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
        self._artifact, self._graphs, self._options = artifact, graphs, options
        weights = artifact.weights(graphs)
        self._decoder_weights, tower = self._shared(weights.decoder), self._shared(weights.encoder)
        front_end, decoder = artifact.manifest.front_end, artifact.manifest.decoder
        wave, width = front_end.wave, decoder.dims.hidden_size
        bins = front_end.log_mel.num_mel_bins
        signature = encoder_signature(bins, wave.window_width if wave else width)
        self.encoder = self._load(graphs.encoder, tower, signature)
        self.wave_encoder = None
        if wave and graphs.wave_encoder:
            signature = wave_encoder_signature(wave.window_width, width)
            self.wave_encoder = self._load(graphs.wave_encoder, tower, signature)
        signature = decode_signature(decoder.dims, decoder.step_inputs, in_place=True)
        self.decode = self._load(graphs.decode, self._decoder_weights, signature, is_step=True)
        self._others: dict[str, OnnxRuntimeCudaSession] = {}  # by file
        self._lock = threading.Lock()

    @property
    def precision(self) -> str:
        """That of the graphs."""
        return self._graphs.precision

    @property
    def device(self) -> str:
        """The device, as ONNX Runtime names it."""
        options = self._options
        return CPU if options.kind == CPU else f"{options.kind}:{options.number}"

    def prompt_adapter(self) -> OnnxRuntimeCudaSession:
        """The session of the prompt adapter."""
        assert self._graphs.prompt_adapter is not None, "the manifest has one"
        return self._other(self._graphs.prompt_adapter, prompt_adapter_signature(self._decoder.dims))

    def prefill(self, profile: str) -> OnnxRuntimeCudaSession:
        """The prefill session of a profile of the artifact."""
        signature = prefill_signature(self._decoder.dims, self._decoder.request_inputs)
        return self._other(self._graphs.prefill[profile], signature)

    @property
    def _decoder(self) -> Decoder:
        return self._artifact.manifest.decoder

    def _other(self, graph: str, signature: Signature) -> OnnxRuntimeCudaSession:
        with self._lock:
            if graph not in self._others:
                self._others[graph] = self._load(graph, self._decoder_weights, signature)
            return self._others[graph]

    def _load(
        self, graph: str, weights: Mapping[str, Any], signature: Signature, is_step: bool = False
    ) -> OnnxRuntimeCudaSession:
        path, content = self._artifact.path(graph), self._artifact.read(graph)
        session = OnnxRuntimeCudaSession(path, content, weights, self.precision, self._options, is_step)
        session.check(signature)
        return session

    def _shared(self, places: Mapping[str, WeightPlace]) -> dict[str, Any]:
        """Weights on the device, by name; those of one copy alone are in memory at a time on the way."""
        mapped = map_weights(self._artifact, places)
        return {name: shared(bits, self._options) for name, bits in mapped.items()}
