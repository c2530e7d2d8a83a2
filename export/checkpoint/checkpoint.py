"""A checkpoint folder as tensors at byte offsets: nothing is read until it is needed, nothing is copied."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...profiles.errors import CheckpointError

CONFIG = "config.json"
ITEM_SIZES = {"F32": 4, "F16": 2, "BF16": 2}
MAX_HEADER_BYTES = 100 << 20


@dataclass(frozen=True)
class Tensor:
    """One tensor of a safetensors file, by place."""

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int  # bytes from the start of the file

    @property
    def size_bytes(self) -> int:
        """Bytes in the file."""
        return math.prod(self.shape) * ITEM_SIZES[self.dtype]

    def rows(self, start: int, end: int) -> Tensor:
        """Rows [start, end) as a tensor of their own: a fused projection is cut without a copy."""
        row_bytes = self.size_bytes // self.shape[0]
        return replace(
            self,
            name=f"{self.name}[{start}:{end}]",
            shape=(end - start, *self.shape[1:]),
            offset=self.offset + start * row_bytes,
        )

    def read(self) -> NDArray[np.float32]:
        """The values as float32, whatever the stored type."""
        stored = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}[self.dtype]
        raw = np.fromfile(self.file, stored, math.prod(self.shape), offset=self.offset).reshape(self.shape)
        if self.dtype == "BF16":  # the upper half of a float32
            return (raw.astype(np.uint32) << 16).view(np.float32)
        return raw.astype(np.float32, copy=False)


class Checkpoint:
    """A folder with config.json and safetensors, single or sharded."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise CheckpointError(f"checkpoint {folder}: no such folder; give a folder with config.json")
        self.folder = folder
        self.config = self.json(CONFIG)

    def json(self, name: str) -> dict[str, Any]:
        """One JSON file of the folder.

        Raises:
            CheckpointError: it is missing or not a JSON object.
        """
        path = self.folder / name
        if not path.is_file():
            raise CheckpointError(f"checkpoint {self.folder}: {name} is missing")
        try:
            content = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise CheckpointError(f"{path}: not valid JSON ({error})") from None
        if not isinstance(content, dict):
            raise CheckpointError(f"{path}: a JSON object is expected, this is a {type(content).__name__}")
        return content

    def optional_json(self, name: str) -> dict[str, Any]:
        """As `json`, empty where the file does not exist."""
        return self.json(name) if (self.folder / name).is_file() else {}

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """The safetensors files."""
        if (self.folder / "model.safetensors").is_file():
            return (self.folder / "model.safetensors",)
        if not (self.folder / "model.safetensors.index.json").is_file():
            raise CheckpointError(
                f"checkpoint {self.folder}: neither model.safetensors nor model.safetensors.index.json is "
                "there; save it with save_pretrained(safe_serialization=True)"
            )
        weight_map = self.json("model.safetensors.index.json").get("weight_map")
        if not isinstance(weight_map, dict):
            raise CheckpointError(
                f"{self.folder}/model.safetensors.index.json: no object 'weight_map' is there"
            )
        return tuple(self._shard(name) for name in sorted(set(map(str, weight_map.values()))))

    @cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        """All tensors by name."""
        return {name: tensor for file in self.files for name, tensor in read_header(file).items()}

    def tensor(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """One tensor, whose shape must be as the config says.

        Raises:
            CheckpointError: it is missing, or of another shape or an unsupported dtype.
        """
        if name not in self.tensors:
            raise CheckpointError(f"checkpoint {self.folder}: tensor {name} is missing")
        tensor = self.tensors[name]
        if tensor.shape != shape:
            raise CheckpointError(
                f"checkpoint {self.folder}: tensor {name} has shape {list(tensor.shape)}, "
                f"config.json asks for {list(shape)}"
            )
        if tensor.dtype not in ITEM_SIZES:
            raise CheckpointError(
                f"checkpoint {self.folder}: tensor {name} is {tensor.dtype}; "
                f"supported are {', '.join(ITEM_SIZES)}"
            )
        return tensor

    def _shard(self, name: object) -> Path:
        path = self.folder / str(name)
        if path.parent != self.folder:
            raise CheckpointError(f"checkpoint {self.folder}: shard {name!r} lies outside the folder")
        if not path.is_file():
            raise CheckpointError(f"checkpoint {self.folder}: shard {name} is missing")
        return path


def read_header(file: Path) -> dict[str, Tensor]:
    """The tensors of one safetensors file.

    Raises:
        CheckpointError: the header is damaged, or the file is shorter or longer than it says.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else -1
        if not 0 < length <= min(MAX_HEADER_BYTES, size - 8):
            raise CheckpointError(f"{file}: not a safetensors file, or cut off inside its header")
        try:
            header = json.loads(stream.read(length))
        except ValueError as error:
            raise CheckpointError(f"{file}: the safetensors header is damaged ({error})") from None
    if not isinstance(header, dict):
        raise CheckpointError(f"{file}: the safetensors header is damaged (no object); copy it again")
    header.pop("__metadata__", None)
    base = 8 + length
    tensors = {name: _tensor(name, entry, file, base) for name, entry in header.items()}
    expected = base + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if size != expected:
        raise CheckpointError(
            f"{file}: {size} bytes, its header asks for {expected}; the file is truncated, copy it again"
        )
    return tensors


def _tensor(name: str, entry: object, file: Path, base: int) -> Tensor:
    """One entry of a header whose data begins at byte `base`."""
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(start), int(stop)]} if (
            0 <= start <= stop and all(type(size) is int and size >= 0 for size in shape)
        ):
            tensor = Tensor(name, file, dtype, tuple(shape), base + start)
        case _:
            raise CheckpointError(f"{file}: the safetensors header is damaged ({name}); copy it again")
    if dtype in ITEM_SIZES and tensor.size_bytes != stop - start:
        raise CheckpointError(
            f"{file}: {name} has {stop - start} bytes, its dtype and shape ask for {tensor.size_bytes}; "
            "copy it again"
        )
    return tensor
