"""The sessions of one loaded artifact, over one mapping of its weights."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from .artifact import Artifact
from .onnxruntime_session import OnnxRuntimeSession
from .session import Session
from .weights import Floats, map_weights


class Sessions:
    """Encoder and decode step at once, each profile's prefill when it is first asked for."""

    def __init__(self, artifact: Artifact, *, threads: int, providers: Sequence[str], prepack: bool) -> None:
        self._artifact, self._threads, self._providers = artifact, threads, tuple(providers)
        graphs, weights = artifact.manifest.graphs, artifact.manifest.weights
        self._decoder_weights = map_weights(artifact, weights.decoder)
        self.encoder = self._load(graphs.encoder, map_weights(artifact, weights.encoder))
        self.decode = self._load(graphs.decode, self._decoder_weights, prepack)
        self._prefills: dict[str, Session] = {}
        self._lock = threading.Lock()

    def prefill(self, profile: str) -> Session:
        """The prefill session of a profile of the artifact."""
        with self._lock:
            if profile not in self._prefills:
                graph = self._artifact.manifest.graphs.prefill[profile]
                self._prefills[profile] = self._load(graph, self._decoder_weights)
            return self._prefills[profile]

    def _load(self, graph: str, weights: dict[str, Floats], prepack: bool = False) -> Session:
        return OnnxRuntimeSession(
            self._artifact.path(graph),
            weights,
            threads=self._threads,
            providers=self._providers,
            prepack=prepack,
        )
