"""The reference as a backend: what each graph computes, in torch, from the same inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ...profiles import signature as sig
from ...profiles.kv_layout import ROWS_AXIS, rows_of, take_rows
from ...runtime.artifact.manifest import Manifest
from ...runtime.audio.log_mel import LogMelConfig
from ...runtime.decoding.search import TopTokens
from ..model.families.family import reference_of
from ..reference.layers import Model, Torch, TorchLayers
from ..reference.model import ReferenceDecoder
from ..reference.row_weights import row_weights
from .graphs import DECODE, ENCODER, GraphName
from .places import Place

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]
Run = Callable[[Arrays], dict[str, Array]]


@dataclass(frozen=True)
class TorchSession:
    """One graph of the reference. Its tensors are NumPy arrays."""

    compute: Run
    model: Model
    places: Sequence[Place] = ()

    @property
    def number_bytes(self) -> int:
        """Bytes of one number of a cache tensor."""
        return int(self.model.dtype.itemsize)

    @property
    def prefix_number_bytes(self) -> int:
        """The same."""
        return self.number_bytes

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """All outputs, and what was recorded at the places, by the names that the graph gives them."""
        with recording(self.model, self.places) as recorded:
            return {**self.compute(inputs), **recorded}

    def read(self, tensor: Array) -> Array:
        """The array itself."""
        return tensor

    def rows_of(self, tensor: Array) -> int:
        """Rows of a cache tensor."""
        return rows_of(tensor.shape)


@dataclass(frozen=True)
class TorchBackend:
    """A transformers model under the profiles of an artifact."""

    model: Model
    manifest: Manifest
    margins: dict[int, float] = field(default_factory=dict)
    """Of the last prefill, by layer; see `margin` in `export/reference/reduction.py`."""

    name = "torch"

    @property
    def embedding_scale(self) -> float:
        """Standard deviation of the token embeddings."""
        return float(self.model.get_input_embeddings().weight.detach().std())

    def session(self, graph: GraphName) -> TorchSession:
        """One graph."""
        return self.tapped(graph, ())

    def tapped(self, graph: GraphName, places: Sequence[Place]) -> TorchSession:
        """One graph, with what it computes at these places."""
        computes = {ENCODER: self._encode, DECODE: self._decode}
        return TorchSession(computes.get(graph, self._prefill(graph.profile)), self.model, places)

    def _encode(self, inputs: Arrays) -> dict[str, Array]:
        mel, rows = inputs[sig.MEL], int(inputs[sig.ENCODER_ROWS][0])
        log_mel = self.manifest.front_end.log_mel
        window = mel
        if isinstance(log_mel, LogMelConfig):  # whose windows are filled up
            window = np.zeros((len(mel), log_mel.max_frames), np.float32)
            window[:, : mel.shape[1]] = mel
        reference = reference_of(self.manifest.family)
        assert reference is not None, "the model was loaded through it"
        frames = mel.shape[1] if log_mel.has_audio_alone else log_mel.frames_per_row * rows
        encode = partial(reference.encode_window, self.model, window, frames)
        if not self.manifest.weighs_rows:
            return {sig.AUDIO_EMBEDS: encode()}
        size = self.manifest.front_end.rows_per_token
        tokens, weights = row_weights(self.model, reference.encoder, encode, size)
        return {sig.AUDIO_EMBEDS: tokens, sig.ROW_WEIGHTS: weights}

    def _prefill(self, profile: str | None) -> Run:
        def run(inputs: Arrays) -> dict[str, Array]:
            assert profile is not None
            front_end, rows = self.manifest.front_end, inputs[sig.AUDIO_EMBEDS]
            if sig.ROW_WEIGHTS in inputs:
                rows = np.concatenate([rows, inputs[sig.ROW_WEIGHTS]], axis=1)
            decoder = ReferenceDecoder(
                self.model,
                self.manifest.profiles[profile],
                inputs[sig.PREFIX_IDS],
                rows,
                inputs[sig.SUFFIX_IDS],
                bos_rows=front_end.bos_rows,
                eos_rows=front_end.eos_rows,
            )
            top = decoder.start(int(inputs[sig.NUM_CANDIDATES][0]))
            self.margins.clear()
            self.margins.update(decoder.layers.margins)
            return {**_scores(top), **_prefix(decoder.layers)}

        return run

    def _decode(self, inputs: Arrays) -> dict[str, Array]:
        """Each beam over a cache of its own: the prefix, then the rows of the pool that its mask shows."""
        import torch

        mask = inputs[sig.POOL_MASK]
        shown = mask[:, : mask.shape[1] - len(mask)]  # without the rows of this step
        cached = [_cache_of(inputs, i, shown) for i in range(self.manifest.decoder.dims.num_layers)]
        with torch.no_grad():
            layers = TorchLayers(self.model, cached)
            rows = layers.step(inputs[sig.TOKEN_IDS])
            top = layers.top_tokens(rows[:, -1], int(inputs[sig.NUM_CANDIDATES][0]))
        return {**_scores(top), **_grown(inputs, layers)}


def _scores(top: TopTokens) -> dict[str, Array]:
    return {sig.TOP_LOGITS: top.logits, sig.TOP_IDS: top.ids, sig.LOG_SUM_EXP: top.log_sum_exp}


def _prefix(layers: TorchLayers) -> dict[str, Array]:
    """Keys and values of the prompt, in KV layout."""
    return {
        name(i): tensor[0].numpy()
        for i, pair in enumerate(layers.prefix)
        for name, tensor in zip((sig.prefix_key, sig.prefix_value), pair, strict=True)
    }


def _cache_of(inputs: Arrays, layer: int, shown: Array) -> tuple[Torch, Torch]:
    """Keys and values of one layer: for each beam, first axis, the prefix and its ancestors in KV layout."""
    import torch

    names = (sig.prefix_key, sig.pool_key), (sig.prefix_value, sig.pool_value)
    keys, values = (
        [_joined(inputs[prefix(layer)], take_rows(inputs[pool(layer)], row)) for row in shown]
        for prefix, pool in names
    )
    return torch.as_tensor(np.stack(keys)), torch.as_tensor(np.stack(values))


def _grown(inputs: Arrays, layers: TorchLayers) -> dict[str, Array]:
    """Each pool with the last row of each beam behind it."""
    found = {}
    for i, pair in enumerate(layers.cached):
        for name, tensor in zip((sig.pool_key(i), sig.pool_value(i)), pair, strict=True):
            rows = tensor[:, :, -1].transpose(0, 1).numpy()
            found[sig.grown(name)] = _joined(inputs[name], rows)
    return found


def _joined(first: Array, second: Array) -> Array:
    return np.concatenate([first, second], axis=ROWS_AXIS)


@contextmanager
def recording(model: Model, places: Sequence[Place]) -> Iterator[dict[str, Array]]:
    """Collect what the modules of these places take or give while the context is open: (rows, width) each."""
    found: dict[str, Array] = {}

    def hook(place: Place) -> Callable[..., None]:
        def record(module: Any, inputs: tuple[Torch, ...], output: Torch) -> None:
            tensor = inputs[0] if place.side == "input" else output
            found[place.value] = tensor.reshape(-1, tensor.shape[-1]).numpy()

        return record

    handles = [
        model.get_submodule(place.module).register_forward_hook(hook(place))
        for place in places
        if place.module is not None
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
