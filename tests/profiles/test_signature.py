"""Names and axes stand in one place, and the others follow from it."""

from hypothesis import given
from hypothesis import strategies as st

from fastadasp.profiles.flops import DecoderDims
from fastadasp.profiles.signature import (
    BEAM_ROWS,
    BEAMS,
    POOL,
    POOL_GROWN,
    REQUESTS,
    TensorSpec,
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


LAYOUTS = st.builds(
    DecoderDims,
    num_layers=st.integers(1, 40),
    hidden_size=st.integers(1, 64),
    num_heads=st.integers(1, 8),
    num_kv_heads=st.integers(1, 8),
    head_dim=st.integers(1, 128),
    intermediate_size=st.just(16),
    vocab_size=st.just(9),
)
OF_A_REQUEST = st.lists(st.sampled_from(["float32", "int64"]), max_size=3).map(
    lambda kinds: [TensorSpec(f"given_{i}", kind, (1,)) for i, kind in enumerate(kinds)]
)


@given(dims=LAYOUTS, fixed=OF_A_REQUEST, prefix_type=st.sampled_from(["activation", "float16"]))
def test_a_step_of_several_requests_is_one_of_each_behind_an_axis(dims, fixed, prefix_type):
    """Caches are those of one request, and what it makes is laid out as they are, a row a beam."""
    several, one = step_signature(dims, fixed, prefix_type), decode_signature(dims, fixed, prefix_type)
    tensors, alone = ({each.name: each for each in it.inputs} for it in (several, one))
    assert len(tensors) == len(several.inputs)
    assert set(fixed) <= set(several.inputs)
    for i in range(dims.num_layers):
        for cache, made in zip(cache_names(i)[2:], (new_key(i), new_value(i)), strict=True):
            (output,) = (each for each in several.outputs if each.name == made)
            assert output.dtype == tensors[cache].dtype == "activation"
            assert output.axes == tuple(BEAMS if axis == POOL else axis for axis in tensors[cache].axes)
        for cache in cache_names(i):
            assert tensors[cache].axes == (REQUESTS, *alone[cache].axes)
            assert tensors[cache].dtype == alone[cache].dtype
    assert {each.name for each in several.outputs}.isdisjoint(tensors)
