"""Buffers of the host where memory runs out between two of them."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from fastadasp.profiles.kv_layout import kv_shape
from fastadasp.profiles.signature import pool_key, pool_value, prefix_key, prefix_value
from fastadasp.runtime.batching import buffers as buffers_module
from fastadasp.runtime.batching.buffers import HostBuffers


class Dims:
    num_layers, num_kv_heads, head_dim = 2, 2, 4


DIMS = cast("Any", Dims)


def prefix() -> dict[str, Any]:
    names = [name(i) for i in range(2) for name in (prefix_key, prefix_value)]
    return {name: np.ones(kv_shape(DIMS, 5), np.float32) for name in names}


class Numpy:
    """The module, without memory for another array after some of them."""

    float32, int64 = np.float32, np.int64

    def __init__(self, arrays: int) -> None:
        self.left = arrays

    def zeros(self, *shape: Any) -> Any:
        if not self.left:
            raise MemoryError
        self.left -= 1
        return np.zeros(*shape)


def test_pools_that_grew_in_part_are_made_the_same_for_who_asked_for_less(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    buffers = HostBuffers(DIMS, prefix(), lambda array: array, lambda tensor: tensor)
    with monkeypatch.context() as patch:
        patch.setattr(buffers_module, "np", Numpy(1))
        with pytest.raises(MemoryError):
            buffers.fit_pool(65)
    assert buffers.pool_capacity == 64
    buffers.fit_pool(3)
    tensors = buffers.tensors(1)
    shapes = {tensors[name(i)].shape for i in range(2) for name in (pool_key, pool_value)}
    assert shapes == {(1, *kv_shape(DIMS, 128))}
    assert buffers.pool_capacity == 128


def test_who_joins_pools_that_grew_in_part_has_room_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    buffers = HostBuffers(DIMS, prefix(), lambda array: array, lambda tensor: tensor)
    with monkeypatch.context() as patch:
        patch.setattr(buffers_module, "np", Numpy(1))
        with pytest.raises(MemoryError):
            buffers.fit_pool(65)
    buffers.fit([(5, 5), (7, 7)])
    assert buffers.pool_capacity == 128
    assert all(len(array) == 2 for array in buffers.tensors(2).values())
