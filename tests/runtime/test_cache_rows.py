"""Rows of a cache tensor: counted alike by the sessions of every backend, in any layout, and dropped."""

from types import SimpleNamespace

import numpy as np
import onnxruntime as ort
import pytest

from fake_tensorrt import FakeDevice
from fastadasp.export.check.torch_backend import TorchSession
from fastadasp.profiles import kv_layout
from fastadasp.profiles.signature import cache_names, grown
from fastadasp.runtime.decoding.beam_tree import COMPACT_EVERY
from fastadasp.runtime.decoding.kv_cache import KVCache
from fastadasp.runtime.onnxruntime.session import OnnxRuntimeSession
from fastadasp.runtime.tensorrt.element_types import ELEMENT_TYPES
from fastadasp.runtime.tensorrt.session import DeviceTensor, TensorRTSession

TENSORS = {
    OnnxRuntimeSession: ort.OrtValue.ortvalue_from_numpy,
    TorchSession: lambda array: array,
    TensorRTSession: lambda array: DeviceTensor(
        FakeDevice().upload(array), array.shape, ELEMENT_TYPES["FLOAT"]
    ),
}
"""Session -> what makes a tensor of it; nothing of a graph is needed to count rows."""


@pytest.mark.parametrize("rows_axis", [0, 1, 2])
@pytest.mark.parametrize("session", TENSORS)
def test_rows_are_counted_along_their_axis(monkeypatch, session, rows_axis):
    monkeypatch.setattr(kv_layout, "ROWS_AXIS", rows_axis)
    array = np.zeros(kv_layout.with_rows((2, 4, 5), 9), np.float32)
    assert session.rows_of(None, TENSORS[session](array)) == 9


def test_a_cache_drops_the_rows_that_nobody_descends_from():
    """Two beams, of which the first is continued alone: the rows of the second are dropped at once."""
    session = SimpleNamespace(read=lambda tensor: tensor)
    dims = SimpleNamespace(num_layers=1, num_kv_heads=2, head_dim=3)
    prefix_names, pool_names = cache_names(0)[:2], cache_names(0)[2:]
    cache = KVCache(session, dims, dict.fromkeys(prefix_names, np.zeros((2, 5, 3), np.float32)))
    both = np.array([0, 1])
    for step in range(COMPACT_EVERY):
        mask = cache.branch(both if step else np.array([0, 0]))
        rows = np.arange(mask.shape[1], dtype=np.float32)
        outputs = {grown(name): np.tile(rows[:, None], (2, 1, 3)) for name in pool_names}
        cache.append(outputs, mask)
    cache.compact_for(np.array([0, 0]))
    for name in pool_names:
        pool = cache.tensors[name]
        assert pool[0, :, 0].tolist() == list(range(0, 2 * COMPACT_EVERY, 2))
        assert pool.flags.c_contiguous
