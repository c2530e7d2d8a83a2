"""Shapes of an engine follow from the front end: what makes a token, and whether windows are full."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.engines.shapes import decode_profile, encoder_profile, prefill_profile
from fastadasp.export.model.families.family import load_model
from fastadasp.export.options import EngineOptions
from fastadasp.profiles.signature import step_signature
from fastadasp.runtime.batching.buffers import HostBuffers


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return load_model(Checkpoint(tiny_checkpoint))


def changed(model, full_windows=False, **fields):
    config = replace(model.front_end.log_mel, full_windows=full_windows)
    return replace(model, front_end=replace(model.front_end, log_mel=config, **fields))


@pytest.mark.parametrize(("per_token", "frames"), [(2, 4), (4, 8), (5, 10)])
def test_the_shortest_window_of_an_encoder_gives_one_token(model, per_token, frames):
    shapes = encoder_profile(changed(model, rows_per_token=per_token), EngineOptions()).shapes
    assert shapes["mel"] == ((128, frames), (128, 200), (128, 200))
    assert shapes["encoder_rows"] == ((per_token,), (100,), (100,))


def test_full_windows_have_one_shape(model):
    shapes = encoder_profile(changed(model, full_windows=True, rows_per_token=4), EngineOptions()).shapes
    assert shapes["mel"] == ((128, 200),) * 3
    assert shapes["encoder_rows"] == ((100,),) * 3


def test_the_shortest_prompt_has_one_token_and_the_rows_around_it(model):
    shapes = prefill_profile(changed(model, bos_rows=2, eos_rows=1), 50, EngineOptions()).shapes
    assert [sizes[0] for sizes in shapes["audio_embeds"]] == [4, 25, 50]


SIZES = st.fixed_dictionaries(
    {
        "max_beams": st.integers(1, 12),
        "max_batch": st.integers(1, 9),
        "max_text_rows": st.integers(1, 40),
        "max_new_tokens": st.integers(1, 90),
    }
)


@given(sizes=SIZES, audio_rows=st.integers(1, 500), data=st.data())
@settings(max_examples=40)
def test_a_decode_engine_takes_every_batch_that_its_limits_allow(model, sizes, audio_rows, data):
    """Buffers as they are made for requests of any prefix, one after the other, whose pools are full."""
    options, dims = EngineOptions(**sizes), model.decoder.dims
    shapes = decode_profile(model, audio_rows, options).shapes
    longest = audio_rows + 2 * options.max_text_rows
    prefixes = st.lists(st.integers(1, longest), min_size=dims.num_layers, max_size=dims.num_layers)
    lengths = data.draw(st.lists(prefixes, min_size=1, max_size=options.max_batch))
    kv = dims.num_kv_heads, dims.head_dim
    first = {
        f"prefix_{kind}.{i}": np.zeros((kv[0], rows, kv[1]), np.float32)
        for i, rows in enumerate(lengths[0])
        for kind in ("key", "value")
    }
    buffers = HostBuffers(dims, first, lambda array: array, lambda tensor: tensor)
    for requests in range(1, len(lengths) + 1):
        if requests > 1:
            buffers.fit(lengths[:requests])
        for rows in (1, options.max_beams * options.max_new_tokens):
            buffers.fit_pool(rows)
            for name, tensor in buffers.tensors(requests).items():
                least, _, largest = shapes[name]
                assert all(a <= b <= c for a, b, c in zip(least, tensor.shape, largest, strict=True)), name


def test_every_tensor_of_a_step_that_has_a_dynamic_axis_has_a_range(model):
    tensors = step_signature(model.decoder.dims, model.decoder.step_inputs).inputs
    shapes = decode_profile(model, 50, EngineOptions()).shapes
    assert shapes.keys() == {each.name for each in tensors}  # all have one, or are read for a shape
    assert all(low <= usual <= high for low, usual, high in shapes.values())
