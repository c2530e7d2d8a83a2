"""The sessions of one loaded artifact on ONNX Runtime, over one mapping of its weights."""

from __future__ import annotations

import threading

from ...profiles.signature import (
    Signature,
    decode_signature,
    encoder_signature,
    prefill_signature,
    prompt_adapter_signature,
    wave_encoder_signature,
)
from ..artifact.artifact import Artifact
from ..artifact.manifest import Decoder, Graphs
from ..artifact.weights import MappedWeights, check_precision, map_weights
from .options import OnnxRuntimeOptions
from .session import OnnxRuntimeSession


class OnnxRuntimeSessions:
    """Encoders and decode step at once, the other graphs when they are first asked for."""

    limits = None  # only the model's positions limit what the graphs take

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
        self._artifact, self._graphs, self._options = artifact, graphs, options
        check_precision(artifact, graphs)
        weights = artifact.weights(graphs)
        self._decoder_weights = map_weights(artifact, weights.decoder)
        front_end, decoder = artifact.manifest.front_end, artifact.manifest.decoder
        wave, width = front_end.wave, decoder.dims.hidden_size
        tower = map_weights(artifact, weights.encoder)
        self.encoder = self._load(graphs.encoder, tower)
        self.encoder.check(
            encoder_signature(front_end.log_mel.num_mel_bins, wave.window_width if wave else width)
        )
        self.wave_encoder = self._load(graphs.wave_encoder, tower) if graphs.wave_encoder else None
        if wave and self.wave_encoder:
            self.wave_encoder.check(wave_encoder_signature(wave.window_width, width))
        self.decode = self._load(graphs.decode, self._decoder_weights, every_step=True)
        self.decode.check(decode_signature(decoder.dims, decoder.step_inputs, graphs.prefix_type))
        self._others: dict[str, OnnxRuntimeSession] = {}  # by file
        self._lock = threading.Lock()

    @property
    def precision(self) -> str:
        """That of the graphs."""
        return self._graphs.precision

    @property
    def device(self) -> str:
        """The execution providers."""
        return ", ".join(self._options.providers)

    def prompt_adapter(self) -> OnnxRuntimeSession:
        """The session of the prompt adapter."""
        assert self._graphs.prompt_adapter is not None, "the manifest has one"
        return self._other(self._graphs.prompt_adapter, prompt_adapter_signature(self._decoder.dims))

    def prefill(self, profile: str) -> OnnxRuntimeSession:
        """The prefill session of a profile of the artifact."""
        decoder, graphs = self._decoder, self._graphs
        signature = prefill_signature(decoder.dims, decoder.request_inputs, graphs.prefix_type)
        return self._other(graphs.prefill[profile], signature)

    @property
    def _decoder(self) -> Decoder:
        return self._artifact.manifest.decoder

    def _other(self, graph: str, signature: Signature) -> OnnxRuntimeSession:
        with self._lock:
            if graph not in self._others:
                session = self._load(graph, self._decoder_weights)
                session.check(signature)
                self._others[graph] = session
            return self._others[graph]

    def _load(self, graph: str, weights: MappedWeights, every_step: bool = False) -> OnnxRuntimeSession:
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
            prepack=quantized or (self._options.prepack and every_step),
            shrink=not self._options.prepack and not every_step,
        )
        if quantized:
            weights.forget()
        return session
