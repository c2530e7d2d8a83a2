"""Which form each matrix of a model takes, by the target that its graphs are for."""

from __future__ import annotations

import pytest

from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.checkpoint.quantized import Int8Blocks, QuantizedRows
from fastadasp.export.model.families.family import load_model
from fastadasp.export.model.quantize import quantized
from fastadasp.export.model.spec import Linear, parts_of
from fastadasp.export.targets import TARGETS


@pytest.mark.parametrize("target", ["onnxruntime", "openvino", "onnxruntime-cuda"])
def test_layers_of_the_encoder_have_rows_on_onnx_runtime_and_blocks_elsewhere(tiny_checkpoint, target):
    quantizers = TARGETS[target].quantizers("fp32", {}, 32)
    encoder = quantized(load_model(Checkpoint(tiny_checkpoint)), "int8", quantizers).encoder
    form = QuantizedRows if target == "onnxruntime" else Int8Blocks
    assert {type(linear.weight) for linear in parts_of(encoder.layers, Linear)} == {form}
    if target != "onnxruntime-cuda":
        assert {type(linear.weight) for linear in parts_of(encoder.head, Linear)} == {Int8Blocks}
