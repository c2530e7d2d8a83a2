"""The sessions of one artifact whose graphs ONNX Runtime reads, whatever provider runs them."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, Protocol, TypeVar

from ...profiles.signature import (
    Signature,
    encoder_signature,
    prefill_signature,
    prompt_adapter_signature,
    row_maps,
    wave_encoder_signature,
)
from ..artifact.artifact import Artifact
from ..artifact.manifest import Decoder, Graphs
from ..session import Session


class GraphSession(Session, Protocol):
    """A session that knows the tensors of its graph."""

    def check(self, signature: Signature) -> None:
        """Refuse a graph of another model than the manifest describes.

        Raises:
            ArtifactError: tensors of other names, or of other sizes where these are fixed.
        """


Loaded = TypeVar("Loaded", bound=GraphSession)
WeightsByName = TypeVar("WeightsByName", bound=Mapping[str, Any])


class GraphSessions(ABC, Generic[Loaded, WeightsByName]):
    """Encoders and decode step at once, the other graphs when they are first asked for."""

    limits = None  # only the model's positions limit what the graphs take
    planned = unrolled = False
    scores_all_tokens = True

    def __init__(
        self, artifact: Artifact, graphs: Graphs, decoder: WeightsByName, tower: WeightsByName
    ) -> None:
        """Load the graphs.

        Args:
            artifact: what is run.
            graphs: those of its graphs that are for this provider.
            decoder: weights of prefill and decode graphs.
            tower: weights of the encoders.

        Raises:
            ArtifactError: a graph that does not load.
        """
        self._artifact, self._graphs, self._decoder_weights = artifact, graphs, decoder
        front_end, width = artifact.manifest.front_end, self._decoder.dims.hidden_size
        wave = front_end.wave
        bins = front_end.log_mel.num_mel_bins
        windows = encoder_signature(bins, wave.window_width if wave else width, artifact.manifest.weighs_rows)
        self.encoder = self._checked(graphs.encoder, tower, windows)
        self.wave_encoder: Loaded | None = None
        if wave and graphs.wave_encoder:
            signature = wave_encoder_signature(wave.window_width, width)
            self.wave_encoder = self._checked(graphs.wave_encoder, tower, signature)
        self.decode = self._checked(graphs.decode, decoder, self._step_signature(), is_step=True)
        self._others: dict[str, Loaded] = {}  # by file
        self._lock = threading.Lock()

    @abstractmethod
    def _step_signature(self) -> Signature:
        """The tensors of a step."""

    @abstractmethod
    def _load(self, graph: str, weights: WeightsByName, is_step: bool) -> Loaded:
        """One graph; the decode step runs most often.

        Raises:
            ArtifactError: it does not load.
        """

    @property
    def precision(self) -> str:
        """That of the graphs."""
        return self._graphs.precision

    def prompt_adapter(self) -> Loaded:
        """The session of the prompt adapter."""
        assert self._graphs.prompt_adapter is not None, "the manifest has one"
        return self._other(self._graphs.prompt_adapter, prompt_adapter_signature(self._decoder.dims))

    def prefill(self, profile: str) -> Loaded:
        """The prefill session of a profile of the artifact."""
        decoder, graphs = self._decoder, self._graphs
        resolved = self._artifact.manifest.profiles[profile]
        maps = row_maps(decoder.dims, resolved) if decoder.row_maps else ()
        told = maps, decoder.word_heads, resolved.takes_row_weights
        signature = prefill_signature(decoder.dims, decoder.request_inputs, graphs.prefix_type, *told)
        return self._other(graphs.prefill[profile], signature)

    @property
    def _decoder(self) -> Decoder:
        return self._artifact.manifest.decoder

    def _other(self, graph: str, signature: Signature) -> Loaded:
        with self._lock:
            if graph not in self._others:
                self._others[graph] = self._checked(graph, self._decoder_weights, signature)
            return self._others[graph]

    def _checked(
        self, graph: str, weights: WeightsByName, signature: Signature, is_step: bool = False
    ) -> Loaded:
        session = self._load(graph, weights, is_step)
        session.check(signature)
        return session
