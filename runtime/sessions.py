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
        self._prepack = prepack
        graphs, weights = artifact.manifest.graphs, artifact.manifest.weights
        self._decoder_weights = map_weights(artifact, weights.decoder)
        self.encoder = self._load(graphs.encoder, map_weights(artifact, weights.encoder))
        self.decode = self._load(graphs.decode, self._decoder_weights, every_step=True)
        self._prefills: dict[str, Session] = {}
        self._lock = threading.Lock()

    def prefill(self, profile: str) -> Session:
        """The prefill session of a profile of the artifact."""
        with self._lock:
            if profile not in self._prefills:
                graph = self._artifact.manifest.graphs.prefill[profile]
                self._prefills[profile] = self._load(graph, self._decoder_weights)
            return self._prefills[profile]

    def _load(self, graph: str, weights: dict[str, Floats], every_step: bool = False) -> Session:
        """Only the graph that runs at every step is worth packed weights; the others work on many rows."""
        return OnnxRuntimeSession(
            self._artifact.path(graph),
            weights,
            threads=self._threads,
            providers=self._providers,
            prepack=self._prepack and every_step,
            shrink=not self._prepack and not every_step,
        )
