"""What a parsed network must have before it is built: nothing was lost, nothing fell back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ...profiles.errors import EngineError
from .messages import Expected

KNOWN_LAYERS = frozenset(
    (
        *("ATTENTION_INPUT", "ATTENTION_OUTPUT", "PLUGIN_V3", "ROTARY_EMBEDDING", "NORMALIZATION", "SOFTMAX"),
        *("MATRIX_MULTIPLY", "CONVOLUTION", "ACTIVATION", "ELEMENTWISE", "UNARY", "REDUCE", "TOPK", "SELECT"),
        *("CONCATENATION", "GATHER", "SHAPE", "SHUFFLE", "SLICE", "SQUEEZE", "UNSQUEEZE"),
        *("CAST", "CONSTANT", "DEQUANTIZE", "FILL", "IDENTITY"),
    )
)
"""What the lowering's ops become. A loop, a condition or NonZero would mean that an op was replaced."""


def check_network(network: Any, trt: Any, expected: Expected) -> None:
    """Check plugins, attention, quantised matrices, inputs and the types of the layers.

    Raises:
        EngineError: with the layers or inputs that are not as they should be.
    """
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    check_plugins(layers, trt, expected.plugin_layers)
    check_attention(layers, trt, expected.attention_layers, expected.causal)
    check_quantized(layers, trt, expected.quantized)
    check_inputs(network, layers)
    check_types(layers)


def check_plugins(layers: list[Any], trt: Any, expected: Mapping[str, int]) -> None:
    """Every reduction is a plugin layer."""
    found = Counter(
        layer.name.rpartition("/")[2].rstrip("_0123456789")
        for layer in layers
        if layer.type == trt.LayerType.PLUGIN_V3
    )
    if dict(found) != dict(expected):
        raise EngineError(
            f"the network has the plugin layers {dict(found)}, the graph asks for {dict(expected)}"
        )


def check_attention(layers: list[Any], trt: Any, expected: int, causal: bool) -> None:
    """Every attention is one fused layer, and masked as the model is. Lengths that it ignores are refused."""
    inputs = [layer for layer in layers if layer.type == trt.LayerType.ATTENTION_INPUT]
    if len(inputs) != expected:
        raise EngineError(
            f"the network has {len(inputs)} fused attention layers, the graph asks for {expected}"
        )
    for layer in inputs:
        layer.__class__ = trt.IAttentionBoundaryLayer  # the bindings do not narrow the type themselves
        attention = layer.attention
        if attention.causal != causal:
            wanted, found = ("causal", "not causal") if causal else ("not causal", "causal")
            raise EngineError(
                f"{attention.name} is {found} and must be {wanted}: its mask was "
                f"{'dropped' if causal else 'added'} on the way"
            )
        if getattr(attention, "key_value_lengths", None) is not None:
            raise EngineError(f"{attention.name} takes key lengths, which TensorRT ignores: use a mask")


def check_quantized(layers: list[Any], trt: Any, expected: Mapping[str, int]) -> None:
    """Every quantised matrix is still one, in as few bits as the graph has it."""
    forms = {trt.int8: "int8", trt.int4: "int4"}
    types = (layer.get_input(0).dtype for layer in layers if layer.type == trt.LayerType.DEQUANTIZE)
    found = Counter(forms.get(kind, str(kind)) for kind in types)
    if dict(found) != dict(expected):
        raise EngineError(
            f"the network has the quantised matrices {dict(found)}, the graph asks for {dict(expected)}"
        )


def check_inputs(network: Any, layers: list[Any]) -> None:
    """Every input is read."""
    read = {
        layer.get_input(i).name for layer in layers for i in range(layer.num_inputs) if layer.get_input(i)
    }
    inputs = [network.get_input(i).name for i in range(network.num_inputs)]
    if unread := [name for name in inputs if name not in read]:
        raise EngineError(f"the network reads {', '.join(unread)} nowhere: a part of the graph was lost")


def check_types(layers: list[Any]) -> None:
    """No layer of a type that the lowering never asks for."""
    names = ((layer.metadata or layer.name, str(layer.type).rpartition(".")[2]) for layer in layers)
    if odd := [f"{name} ({kind})" for name, kind in names if kind not in KNOWN_LAYERS]:
        raise EngineError(f"layers of unexpected types: {', '.join(odd[:5])}; an op was replaced in parsing")
