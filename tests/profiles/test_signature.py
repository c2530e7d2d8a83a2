"""Names and axes stand in one place, and the others follow from it."""

from fastadasp.profiles.flops import DecoderDims
from fastadasp.profiles.signature import (
    BEAM_ROWS,
    BEAMS,
    POOL,
    POOL_GROWN,
    REQUESTS,
    cache_names,
    decode_signature,
    new_key,
    new_value,
    prefill_signature,
    prefix_axis,
    step_signature,
)

DIMS = DecoderDims(
    num_layers=3, hidden_size=8, num_heads=4, num_kv_heads=2, head_dim=2, intermediate_size=16, vocab_size=9
)


def axes(tensors):
    return {axis for tensor in tensors for axis in tensor.axes if isinstance(axis, str)}


def test_the_caches_of_a_decode_step_are_its_inputs_with_a_head_axis():
    found = [tensor.name for tensor in decode_signature(DIMS).inputs if len(tensor.axes) == 3]
    assert sorted(found) == sorted(name for layer in range(3) for name in cache_names(layer))


def test_each_layer_has_a_prefix_of_its_own_length():
    prefixes = {prefix_axis(layer) for layer in range(3)}
    assert len(prefixes) == 3
    assert axes(decode_signature(DIMS).inputs) == {BEAMS, POOL, POOL_GROWN, *prefixes}
    assert prefixes < axes(prefill_signature(DIMS).outputs)


def test_a_step_of_several_requests_has_their_caches_as_inputs_and_their_new_rows_as_outputs():
    step = step_signature(DIMS)
    stacked = [tensor for tensor in step.inputs if len(tensor.axes) == 4]
    assert sorted(tensor.name for tensor in stacked) == sorted(
        name for layer in range(3) for name in cache_names(layer)
    )
    assert {tensor.axes[0] for tensor in stacked} == {REQUESTS}
    assert axes(step.inputs) == {REQUESTS, BEAMS, POOL, *(prefix_axis(layer) for layer in range(3))}
    new = [tensor.name for tensor in step.outputs if len(tensor.axes) == 4]
    assert sorted(new) == sorted(name(layer) for layer in range(3) for name in (new_key, new_value))
    assert BEAM_ROWS in axes(step.outputs)
