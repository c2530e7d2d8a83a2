"""The KV cache of one request: a prefix that all beams share, and a pool of the rows they generated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ...profiles.flops import DecoderDims, kv_bytes
from ...profiles.kv_layout import kv_shape, take_rows
from ...profiles.signature import grown, pool_key, pool_value, prefix_key, prefix_value
from ..session import Session, Tensor
from .beam_tree import BeamTree, Mask


class CacheFigures(Protocol):
    """What there is to say of a cache at the end of its request."""

    @property
    def prefix_lengths(self) -> tuple[int, ...]:
        """Rows of the prefix in every layer."""

    @property
    def size_bytes(self) -> int:
        """Bytes of the prefix and of the pool at its largest, without the room behind rows in use."""


def cache_bytes(session: Session, dims: DecoderDims, prefix: Sequence[int], pool: int) -> int:
    """Bytes of a prefix of so many rows by layer, and of as many rows of a pool in each."""
    in_prefix = kv_bytes(dims, prefix, session.prefix_number_bytes)
    return in_prefix + kv_bytes(dims, [pool] * dims.num_layers, session.number_bytes)


class KVCache:
    """Prefix tensors as the prefill left them, pool tensors as the last step left them."""

    def __init__(self, session: Session, dims: DecoderDims, prefill_outputs: Mapping[str, Tensor]) -> None:
        self._session, self._dims = session, dims
        layers = range(dims.num_layers)
        self._prefix = {
            name: prefill_outputs[name] for i in layers for name in (prefix_key(i), prefix_value(i))
        }
        empty = np.zeros(kv_shape(dims, 0), np.float32)
        self._pool: dict[str, Tensor] = {name: empty for i in layers for name in (pool_key(i), pool_value(i))}
        self._tree = BeamTree()

    @property
    def prefix_lengths(self) -> tuple[int, ...]:
        """Rows of the prefix in every layer."""
        keys = (self._prefix[prefix_key(i)] for i in range(self._dims.num_layers))
        return tuple(self._session.rows_of(key) for key in keys)

    @property
    def size_bytes(self) -> int:
        """Bytes of the prefix and of the pool at its largest."""
        return cache_bytes(self._session, self._dims, self.prefix_lengths, self._tree.largest)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Everything that a decode step reads."""
        return {**self._prefix, **self._pool}

    @property
    def steps(self) -> int:
        """Rows that each beam has generated."""
        return self._tree.steps

    def branch(self, parents: npt.NDArray[np.int64]) -> Mask:
        """The mask of a step whose row i continues row `parents[i]`: (rows, pool + rows)."""
        return self._tree.branch(parents)

    def append(self, outputs: Mapping[str, Tensor], mask: Mask) -> None:
        """Take the grown pool of a step, and the mask that it ran with."""
        self._pool = {name: outputs[grown(name)] for name in self._pool}
        self._tree.append(mask)

    def compact_for(self, parents: npt.NDArray[np.int64]) -> None:
        """Now and then, drop the rows that no row of `parents` descends from, if there are many.

        Those that stay go through the host: ONNX Runtime has no copy of parts.
        """
        if (rows := self._tree.compact_for(parents)) is not None:
            read = self._session.read
            self._pool = {
                name: np.ascontiguousarray(take_rows(read(tensor), rows))
                for name, tensor in self._pool.items()
            }
