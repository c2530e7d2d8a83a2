"""The number formats of weights and activations, as ONNX, NumPy and safetensors name them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from onnx import TensorProto


@dataclass(frozen=True)
class Precision:
    """One number format."""

    name: str
    onnx_type: int
    numpy_type: Any
    safetensors_name: str

    @property
    def item_bytes(self) -> int:
        """Bytes of one number."""
        return int(np.dtype(self.numpy_type).itemsize)


FP32 = Precision("fp32", TensorProto.FLOAT, np.float32, "F32")
FP16 = Precision("fp16", TensorProto.FLOAT16, np.float16, "F16")
BF16 = Precision("bf16", TensorProto.BFLOAT16, ml_dtypes.bfloat16, "BF16")
INT8 = Precision("int8", TensorProto.INT8, np.int8, "I8")
UINT8 = Precision("uint8", TensorProto.UINT8, np.uint8, "U8")
"""Of the parts of quantised matrices alone; nothing is computed in them."""

BY_NAME = {precision.name: precision for precision in (FP32, FP16, BF16)}
