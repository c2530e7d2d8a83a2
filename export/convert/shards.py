"""Tensors to safetensors files with an index, tensor by tensor: one is in memory at a time."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..checkpoint.checkpoint import WEIGHTS_INDEX

Torch = Any  # a torch.Tensor

SHARD_BYTES = 4 << 30
ALIGNMENT = 64
FORMATS = {"torch.float32": "F32", "torch.float16": "F16", "torch.bfloat16": "BF16"}


def write_shards(folder: Path, tensors: Mapping[str, Torch], shard_bytes: int = SHARD_BYTES) -> list[str]:
    """Write files of about `shard_bytes` each, in the tensors' own number formats; return all file names."""
    shards = list(_shards(tensors, shard_bytes))
    names = [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    weight_map: dict[str, str] = {}
    for name, shard in zip(names, shards, strict=True):
        _write(folder / name, {tensor: tensors[tensor] for tensor in shard})
        weight_map |= dict.fromkeys(shard, name)
    index = {"metadata": {"total_size": sum(map(_size, tensors.values()))}, "weight_map": weight_map}
    (folder / WEIGHTS_INDEX).write_text(json.dumps(index, indent=1), "utf-8")
    return [*names, WEIGHTS_INDEX]


def _shards(tensors: Mapping[str, Torch], most: int) -> Iterator[list[str]]:
    """Names in their order, cut where a file would grow beyond `most` bytes."""
    shard: list[str] = []
    filled = 0
    for name, tensor in tensors.items():
        if shard and filled + _size(tensor) > most:
            yield shard
            shard, filled = [], 0
        shard.append(name)
        filled += _size(tensor)
    yield shard


def _write(path: Path, tensors: Mapping[str, Torch]) -> None:
    import torch

    header, end = {}, 0
    for name, tensor in tensors.items():
        begin, end = end, end + _size(tensor)
        entry = {
            "dtype": FORMATS[str(tensor.dtype)],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
        header[name] = entry
    text = json.dumps(header).encode()
    text = text.ljust(-(-(8 + len(text)) // ALIGNMENT) * ALIGNMENT - 8)
    with path.open("xb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            stream.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _size(tensor: Torch) -> int:
    return math.prod(map(int, tensor.shape)) * int(tensor.dtype.itemsize)
