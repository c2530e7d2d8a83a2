"""The layout of keys and values: one fact, in one module."""

import re
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from fastadasp.profiles import kv_layout
from fastadasp.profiles.flops import DecoderDims
from fastadasp.profiles.signature import decode_signature, prefill_signature

ROOT = Path(__file__).parent.parent.parent
DIMS = DecoderDims(
    num_layers=2,
    hidden_size=48,
    num_heads=6,
    num_kv_heads=3,
    head_dim=8,
    intermediate_size=64,
    vocab_size=90,
)


@pytest.fixture(params=permutations(("kv_heads", "rows", "head_dim")), ids="-".join)
def layout(request, monkeypatch):
    """Each order of the axes in turn."""
    monkeypatch.setattr(kv_layout, "KV_LAYOUT", request.param)
    monkeypatch.setattr(kv_layout, "ROWS_AXIS", request.param.index("rows"))
    return request.param


def test_the_layout_is_that_of_the_graphs():
    assert kv_layout.KV_LAYOUT == ("kv_heads", "rows", "head_dim")
    assert kv_layout.ROWS_AXIS == 1


def test_shapes_rows_and_blocks_agree_in_every_layout(layout):
    shape = kv_layout.kv_shape(DIMS, 5)
    assert dict(zip(layout, shape, strict=True)) == {"kv_heads": 3, "rows": 5, "head_dim": 8}
    assert kv_layout.rows_of(shape) == 5
    assert kv_layout.with_rows(shape, 2) == kv_layout.kv_shape(DIMS, 2)
    tensor = np.arange(120).reshape(shape)
    blocks, row_numbers = kv_layout.blocks_of(shape)
    in_blocks = tensor.reshape(blocks, 5, row_numbers)
    for rows in ([4, 0], np.array([True, False, False, True, True]), slice(1, 3)):
        taken = kv_layout.take_rows(tensor, rows)
        assert np.array_equal(taken, np.take(tensor, np.arange(5)[rows], axis=layout.index("rows")))
        assert np.array_equal(taken, in_blocks[:, rows].reshape(taken.shape))


def test_the_signature_declares_every_cache_in_the_layout(layout):
    decode, prefill = decode_signature(DIMS), prefill_signature(DIMS)
    caches = [
        tensor
        for tensor in (*decode.inputs, *decode.outputs, *prefill.outputs)
        if re.match(r"(prefix|pool)_(key|value)\.", tensor.name)
    ]
    assert len(caches) == 2 * (4 + 2 + 2)
    for tensor in caches:
        axes = dict(zip(layout, tensor.axes, strict=True))
        assert (axes["kv_heads"], axes["head_dim"]) == (3, 8)
        assert re.fullmatch(r"prefix_[01]|pool|pool_grown", axes["rows"])


def test_no_other_module_spells_the_layout_out():
    spelled = re.compile(r"\((num_)?kv_heads, \w+, head_dim\)")
    folders = ("profiles", "plugins", "runtime", "evaluation", "export")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert not [str(path.relative_to(ROOT)) for path in files if spelled.search(path.read_text("utf-8"))]
