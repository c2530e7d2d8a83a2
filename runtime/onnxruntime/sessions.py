"""The sessions of one loaded artifact on ONNX Runtime, over one mapping of its weights."""

from __future__ import annotations

import threading

from ...profiles.signature import (
    decode_signature,
    encoder_signature,
    prefill_signature,
    wave_encoder_signature,
)
from ..artifact.artifact import Artifact
from ..artifact.manifest import Graphs
from ..artifact.weights import Floats, check_precision, map_weights
from .options import OnnxRuntimeOptions
from .session import OnnxRuntimeSession


class OnnxRuntimeSessions:
    """Encoders and decode step at once, each profile's prefill when it is first asked for."""

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
        self.decode.check(decode_signature(decoder.dims, decoder.request_inputs))
        self._prefills: dict[str, OnnxRuntimeSession] = {}
        self._lock = threading.Lock()

    @property
    def precision(self) -> str:
        """That of the graphs."""
        return self._graphs.precision

    @property
    def device(self) -> str:
        """The execution providers."""
        return ", ".join(self._options.providers)

    def prefill(self, profile: str) -> OnnxRuntimeSession:
        """The prefill session of a profile of the artifact."""
        with self._lock:
            if profile not in self._prefills:
                graph = self._graphs.prefill[profile]
                prefill, decoder = self._load(graph, self._decoder_weights), self._artifact.manifest.decoder
                prefill.check(prefill_signature(decoder.dims, decoder.request_inputs))
                self._prefills[profile] = prefill
            return self._prefills[profile]

    def _load(self, graph: str, weights: dict[str, Floats], every_step: bool = False) -> OnnxRuntimeSession:
        """Only the graph that runs at every step is worth packed weights; the others work on many rows."""
        return OnnxRuntimeSession(
            self._artifact.path(graph),
            weights,
            graph=self._artifact.read(graph),
            threads=self._options.threads,
            providers=self._options.providers,
            prepack=self._options.prepack and every_step,
            shrink=not self._options.prepack and not every_step,
        )
