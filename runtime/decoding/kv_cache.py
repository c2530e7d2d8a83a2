"""The KV cache of one request: a prefix that all beams share, and a pool of the rows they generated.

Beams form a tree. A generated row is stored once, where it was appended; each live beam knows which rows of
the pool are its ancestors. So picking other beams costs a mask, not a reordering of keys and values.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ...profiles.flops import DecoderDims, kv_bytes
from ...profiles.kv_layout import kv_shape
from ...profiles.signature import grown, pool_key, pool_value, prefix_key, prefix_value
from ..session import Session, Tensor

COMPACT_EVERY = 16  # steps between looks for dead rows
LIVE_SHARE = 0.75  # compact when fewer rows of the pool than this are anybody's ancestor

Mask = npt.NDArray[np.bool_]


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
        self._ancestors: Mask = np.zeros((1, 0), np.bool_)  # (rows of the last step, pool)
        self.largest_pool = 0

    @property
    def prefix_lengths(self) -> tuple[int, ...]:
        """Rows of the prefix in every layer."""
        keys = (self._prefix[prefix_key(i)] for i in range(self._dims.num_layers))
        return tuple(self._session.rows_of(key) for key in keys)

    @property
    def size_bytes(self) -> int:
        """Bytes of the prefix and of the pool at its largest."""
        session, pool = self._session, [self.largest_pool] * self._dims.num_layers
        prefix = kv_bytes(self._dims, self.prefix_lengths, session.prefix_number_bytes)
        return prefix + kv_bytes(self._dims, pool, session.number_bytes)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Everything that a decode step reads."""
        return {**self._prefix, **self._pool}

    def branch(self, parents: npt.NDArray[np.int64]) -> Mask:
        """The mask of a step whose row i continues row `parents[i]`: (rows, pool + rows)."""
        own = np.eye(len(parents), dtype=np.bool_)
        return np.concatenate([self._ancestors[parents], own], axis=1)

    def append(self, outputs: Mapping[str, Tensor], mask: Mask) -> None:
        """Take the grown pool of a step, and the mask that it ran with."""
        self._pool = {name: outputs[grown(name)] for name in self._pool}
        self._ancestors = mask
        self.largest_pool = max(self.largest_pool, mask.shape[1])

    def compact_for(self, parents: npt.NDArray[np.int64]) -> None:
        """Drop the rows of the pool that no row of `parents` descends from, if there are many."""
        live = self._ancestors[parents].any(axis=0)
        if live.sum() < LIVE_SHARE * live.size:
            rows = np.flatnonzero(live)
            self._pool = {name: self._session.take_rows(tensor, rows) for name, tensor in self._pool.items()}
            self._ancestors = self._ancestors[:, live]
