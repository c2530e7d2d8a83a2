"""Where the weights of an artifact lie: linked or copied as they are, or converted once for all graphs."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...profiles.errors import CheckpointError, OutputError
from ...runtime.artifact.hashing import CHUNK_BYTES
from ...runtime.artifact.manifest import FileRecord
from .checkpoint import Tensor
from .derived import Derived, Weight, stored_in
from .hashed_file import HashedFile, Tick, counted
from .precision import FP32, INT8, UINT8, Precision

FOLDER = "weights"
COMPUTED = "derived."  # how the file of what is computed begins, beside the checkpoint's own
ALIGNMENT = 64


@dataclass(frozen=True)
class Place:
    """Bytes of one tensor inside the artifact."""

    location: str  # file, relative to the artifact
    offset: int
    length: int
    stored: Precision


class WeightStore(Protocol):
    """Knows the place of every tensor before a byte is written, and writes them."""

    description: str

    def place(self, tensor: Weight) -> Place:
        """Where graphs find this tensor."""

    def write(self, folder: Path, tick: Tick = lambda *_: None) -> dict[str, FileRecord | None]:
        """Put the weight files into the artifact, and tell how far that is.

        Returns:
            their names, with the record of each one whose bytes were written here; None for a link.
        """


def weight_store(tensors: Iterable[Weight], mode: str, precision: Precision = FP32) -> WeightStore:
    """The store for these tensors: in place where every one of the checkpoint has the precision already.

    Of a quantised model most tensors of the checkpoint are not used, so what is left is written anew.

    Args:
        tensors: every tensor that the graphs refer to.
        mode: "link" for hard links to the checkpoint's files, "copy" for copies.
        precision: the number format that the graphs want.
    """
    tensors = list(tensors)
    stored = [tensor for tensor in tensors if isinstance(tensor, Tensor)]
    derived = [tensor for tensor in tensors if isinstance(tensor, Derived)]
    is_quantized = any(tensor.precision in (INT8, UINT8) for tensor in derived)  # and its originals unused
    if not is_quantized and all(tensor.dtype == precision.safetensors_name for tensor in stored):
        return InPlace(sorted({tensor.file for tensor in stored}), mode, derived, precision)
    return Converted(tensors, precision)


class InPlace:
    """The checkpoint's own files, as hard links (no bytes) or as copies, and one of what is derived."""

    def __init__(
        self, files: Iterable[Path], mode: str, derived: Iterable[Derived], precision: Precision
    ) -> None:
        self.files, self.mode, self.precision = list(files), mode, precision
        self.description = {"link": "linked", "copy": "copied"}[mode]
        self.derived = Converted(derived, precision, f"{COMPUTED}{precision.name}")

    def place(self, tensor: Weight) -> Place:
        """A stored tensor's own offset in its own file."""
        if isinstance(tensor, Derived):
            return self.derived.place(tensor)
        return Place(f"{FOLDER}/{tensor.file.name}", tensor.offset, tensor.size_bytes, self.precision)

    def write(self, folder: Path, tick: Tick = lambda *_: None) -> dict[str, FileRecord | None]:
        """Link or copy each file, and write what is derived.

        Raises:
            OutputError: the files cannot be linked, because artifact and checkpoint are on two disks.
            CheckpointError: as `Converted.write`.
        """
        (folder / FOLDER).mkdir(exist_ok=True)
        sources = {file.name: file.resolve() for file in self.files}
        if self.mode == "link":
            for name, source in sources.items():
                _link(source, folder / FOLDER / name)
            return {**{f"{FOLDER}/{name}": None for name in sources}, **self._write_derived(folder, tick)}
        told = counted(tick, sum(source.stat().st_size for source in sources.values()))
        copied = {name: _copy(source, folder / FOLDER / name, told) for name, source in sources.items()}
        found = {f"{FOLDER}/{name}": record for name, record in copied.items()}
        return {**found, **self._write_derived(folder, tick)}

    def _write_derived(self, folder: Path, tick: Tick) -> dict[str, FileRecord | None]:
        return self.derived.write(folder, tick) if self.derived.tensors else {}


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        raise OutputError(
            f"{source}: cannot be hard-linked into the artifact ({error.strerror}); use --weights copy"
        ) from None


def _copy(source: Path, target: Path, told: Callable[[int], None]) -> FileRecord:
    size = source.stat().st_size
    with source.open("rb", buffering=0) as stream, HashedFile(target, size, told) as copy:
        buffer = memoryview(bytearray(CHUNK_BYTES))
        while got := stream.readinto(buffer):
            copy.write(buffer[:got])
    return copy.record


class Converted:
    """Safetensors files with every tensor in the precision of the graphs or its own, one at a time.

    There is a file for each precision: the format has no gaps, and a number starts at a multiple of its size.
    """

    description = "converted"

    def __init__(
        self, tensors: Iterable[Weight], precision: Precision = FP32, file_name: str | None = None
    ) -> None:
        self.tensors, self.precision = {tensor.name: tensor for tensor in tensors}, precision
        self._parts = {
            stored: _Part(
                f"{FOLDER}/{file_name if stored is precision and file_name else stored.name}.safetensors",
                stored,
                mine,
            )
            for stored, mine in self._by_precision().items()
        }

    def _by_precision(self) -> dict[Precision, list[Weight]]:
        found: dict[Precision, list[Weight]] = {}
        for tensor in self.tensors.values():
            found.setdefault(stored_in(tensor, self.precision), []).append(tensor)
        return found

    def place(self, tensor: Weight) -> Place:
        """The tensor's offset in the converted file."""
        stored = stored_in(tensor, self.precision)
        part = self._parts[stored]
        return Place(part.file, part.offsets[tensor.name], _num_bytes(tensor, stored), stored)

    def write(self, folder: Path, tick: Tick = lambda *_: None) -> dict[str, FileRecord | None]:
        """Convert and write; one tensor is in memory at a time.

        Raises:
            CheckpointError: a finite number that the precision cannot hold.
        """
        (folder / FOLDER).mkdir(exist_ok=True)
        told = counted(tick, sum(part.size for part in self._parts.values()))
        with ExitStack() as stack:
            files = {
                stored: stack.enter_context(HashedFile(folder / part.file, part.size, told))
                for stored, part in self._parts.items()
            }
            for stored, file in files.items():
                header = self._parts[stored].header
                file.write(struct.pack("<Q", len(header)) + header)
            for tensor in self.tensors.values():
                stored = stored_in(tensor, self.precision)
                files[stored].write(in_precision(tensor, tensor.read(), stored).tobytes())
        return {self._parts[stored].file: file.record for stored, file in files.items()}


class _Part:
    """One safetensors file of tensors in one precision, known before it is written."""

    def __init__(self, file: str, stored: Precision, tensors: Sequence[Weight]) -> None:
        self.file = file
        self.header, self.offsets = _layout({tensor.name: tensor for tensor in tensors}, stored)
        self.size = 8 + len(self.header) + sum(_num_bytes(tensor, stored) for tensor in tensors)


def in_precision(tensor: Weight, numbers: NDArray[Any], precision: Precision) -> NDArray[Any]:
    """The numbers of a tensor in this precision. An overflow would become infinity without a word.

    Raises:
        CheckpointError: a finite number that the precision cannot hold.
    """
    with np.errstate(over="ignore"):
        converted: NDArray[Any] = numbers.astype(precision.numpy_type, copy=False)
    if converted is numbers:
        return numbers
    overflowed = np.isinf(converted)
    overflowed &= np.isfinite(numbers)
    if overflowed.any():
        place = f"{tensor.file}: " if isinstance(tensor, Tensor) else "computed "
        raise CheckpointError(
            f"{place}tensor {tensor.name} holds {numbers[overflowed][0]:g}, which {precision.name} "
            "cannot; give --precision bf16, whose range is that of fp32"
        )
    return converted


def _num_bytes(tensor: Weight, precision: Precision) -> int:
    return math.prod(tensor.shape) * precision.item_bytes


def _layout(tensors: Mapping[str, Weight], precision: Precision) -> tuple[bytes, dict[str, int]]:
    """The safetensors header, and each tensor's offset from the start of the file."""
    entries: dict[str, dict[str, object]] = {}
    starts: dict[str, int] = {}
    end = 0
    for name, tensor in tensors.items():
        starts[name], end = end, end + _num_bytes(tensor, precision)
        entries[name] = {
            "dtype": precision.safetensors_name,
            "shape": tensor.shape,
            "data_offsets": [starts[name], end],
        }
    text = json.dumps(entries).encode()
    header = text.ljust(-(-(8 + len(text)) // ALIGNMENT) * ALIGNMENT - 8)
    return header, {name: 8 + len(header) + start for name, start in starts.items()}
