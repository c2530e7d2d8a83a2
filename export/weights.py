"""Where the weights of an artifact lie: linked or copied as they are, or converted once for all graphs."""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..profiles.errors import OutputError
from .checkpoint import ITEM_SIZES, Tensor

FOLDER = "weights"
CONVERTED = f"{FOLDER}/fp32.safetensors"
ALIGNMENT = 64


@dataclass(frozen=True)
class Place:
    """Bytes of one tensor inside the artifact."""

    location: str  # file, relative to the artifact
    offset: int
    length: int


class WeightStore(Protocol):
    """Knows the place of every tensor before a byte is written, and writes them."""

    description: str

    def place(self, tensor: Tensor) -> Place:
        """Where graphs find this tensor."""

    def write(self, folder: Path) -> list[str]:
        """Put the weight files into the artifact; return their names."""


def weight_store(tensors: Iterable[Tensor], mode: str) -> WeightStore:
    """The store for these tensors in float32: in place where every one is float32 already.

    Args:
        tensors: every tensor that the graphs refer to.
        mode: "link" for hard links to the checkpoint's files, "copy" for copies.
    """
    tensors = list(tensors)
    if all(tensor.dtype == "F32" for tensor in tensors):
        return InPlace(sorted({tensor.file for tensor in tensors}), mode)
    return Converted(tensors)


class InPlace:
    """The checkpoint's own files, as hard links (no bytes) or as copies."""

    def __init__(self, files: Iterable[Path], mode: str) -> None:
        self.files, self.mode = list(files), mode
        self.description = {"link": "linked", "copy": "copied"}[mode]

    def place(self, tensor: Tensor) -> Place:
        """The tensor's own offset in its own file."""
        return Place(f"{FOLDER}/{tensor.file.name}", tensor.offset, tensor.size_bytes)

    def write(self, folder: Path) -> list[str]:
        """Link or copy each file.

        Raises:
            OutputError: the files cannot be linked, because artifact and checkpoint are on two disks.
        """
        (folder / FOLDER).mkdir()
        for file in self.files:
            self._transfer(file.resolve(), folder / FOLDER / file.name)
        return [f"{FOLDER}/{file.name}" for file in self.files]

    def _transfer(self, source: Path, target: Path) -> None:
        if self.mode == "copy":
            shutil.copyfile(source, target)
            return
        try:
            os.link(source, target)
        except OSError as error:
            raise OutputError(
                f"{source}: cannot be hard-linked into the artifact ({error.strerror}); use --weights copy"
            ) from None


class Converted:
    """One float32 safetensors file with every tensor, written tensor by tensor."""

    description = "converted"

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self.tensors = {tensor.name: tensor for tensor in tensors}
        self.header, self.offsets = _layout(self.tensors)

    def place(self, tensor: Tensor) -> Place:
        """The tensor's offset in the converted file."""
        return Place(CONVERTED, self.offsets[tensor.name], _float_bytes(tensor))

    def write(self, folder: Path) -> list[str]:
        """Convert and write; one tensor is in memory at a time."""
        (folder / FOLDER).mkdir()
        with (folder / CONVERTED).open("wb") as stream:
            stream.write(struct.pack("<Q", len(self.header)) + self.header)
            for tensor in self.tensors.values():
                stream.write(tensor.read().astype("<f4", copy=False).tobytes())
        return [CONVERTED]


def _float_bytes(tensor: Tensor) -> int:
    return math.prod(tensor.shape) * ITEM_SIZES["F32"]


def _layout(tensors: Mapping[str, Tensor]) -> tuple[bytes, dict[str, int]]:
    """The safetensors header, and each tensor's offset from the start of the file."""
    entries: dict[str, dict[str, object]] = {}
    starts: dict[str, int] = {}
    end = 0
    for name, tensor in tensors.items():
        starts[name], end = end, end + _float_bytes(tensor)
        entries[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [starts[name], end]}
    text = json.dumps(entries).encode()
    header = text.ljust(-(-(8 + len(text)) // ALIGNMENT) * ALIGNMENT - 8)
    return header, {name: 8 + len(header) + start for name, start in starts.items()}
