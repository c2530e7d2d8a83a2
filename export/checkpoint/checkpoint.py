"""A checkpoint folder as tensors at byte offsets: nothing is read until it is needed, nothing is copied."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...profiles.errors import CheckpointError
from ...profiles.faults import at, shown
from ...profiles.json_text import JsonError, read_object
from ...runtime.artifact.manifest import FILE_NAME as MANIFEST
from .header import read_offsets
from .ranks.rank_tokenizer import RankTokenizer
from .ranks.tekken import Tekken

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
TRAINED = ".pt"  # how the name of what a training has left ends, mostly final.pt
ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
ITEM_SIZES = {"F32": 4, "F16": 2, "BF16": 2}


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

    reads_tokenizer = True
    """Whether its tokenizer counts, where it has one."""

    def __init__(self, folder: Path) -> None:
        if fault := _fault_of_place(folder):
            raise CheckpointError(f"checkpoint {folder}: {fault}")
        self.folder = folder
        self.config = self.json(CONFIG)
        self.rank_tokenizer: RankTokenizer | Tekken | None = None  # what makes a tokenizer.json
        self._taken: set[str] = set()  # names of the tensors that were asked for

    def json(self, name: str) -> dict[str, Any]:
        """One JSON file of the folder.

        Raises:
            CheckpointError: it is missing or not a JSON object.
        """
        path = self.folder / name
        if not path.is_file():
            raise CheckpointError(f"checkpoint {self.folder}: {name} is missing")
        try:
            return read_object(path.read_bytes(), lenient=True)
        except JsonError as error:
            raise CheckpointError(f"{path}: {error}; copy it again") from None

    def optional_json(self, name: str) -> dict[str, Any]:
        """As `json`, empty where the file does not exist."""
        return self.json(name) if (self.folder / name).is_file() else {}

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """The safetensors files."""
        if (self.folder / WEIGHTS).is_file():
            return (self.folder / WEIGHTS,)
        if not (self.folder / WEIGHTS_INDEX).is_file():
            raise CheckpointError(
                f"checkpoint {self.folder}: neither {WEIGHTS} nor {WEIGHTS_INDEX} is there"
                f"{_other_weights(self.folder)}; save it with save_pretrained(safe_serialization=True)"
            )
        weight_map = self.json(WEIGHTS_INDEX).get("weight_map")
        if not isinstance(weight_map, dict):
            raise CheckpointError(f"{self.folder / WEIGHTS_INDEX}: no object 'weight_map' is there")
        return tuple(self._shard(name) for name in sorted(set(map(str, weight_map.values()))))

    @cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        """All tensors by name."""
        found: dict[str, Tensor] = {}
        for file in self.files:
            for name, tensor in read_header(file).items():
                if name in found:
                    raise CheckpointError(
                        f"checkpoint {self.folder}: tensor {name} stands in {found[name].file.name} and in "
                        f"{file.name}; save the checkpoint again"
                    )
                found[name] = tensor
        return found

    def renamed(self, prefixes: Mapping[str, str]) -> Checkpoint:
        """The same checkpoint, whose tensors are found by names of another layout.

        Args:
            prefixes: how a name begins -> how it begins in the other layout; the first that fits is taken.

        Raises:
            CheckpointError: two tensors get one name.
        """

        def renamed(name: str) -> str:
            old = next((prefix for prefix in prefixes if name.startswith(prefix)), "")
            return prefixes.get(old, "") + name.removeprefix(old)

        return self._named(renamed)

    def without(self, part: str) -> Checkpoint:
        """The same checkpoint, whose tensors are found by names without this part; errors as `renamed`."""
        return self._named(lambda name: name.replace(part, ""))

    def _named(self, rename: Callable[[str], str]) -> Checkpoint:
        other, found = copy(self), dict[str, Tensor]()
        for tensor in self.tensors.values():
            name = rename(tensor.name)
            if name in found:
                raise CheckpointError(
                    f"checkpoint {self.folder}: tensors {found[name].name} and {tensor.name} are the same "
                    "part in two layouts; save the checkpoint again"
                )
            found[name] = tensor
        other.tensors = found
        return other

    @property
    def unused(self) -> tuple[str, ...]:
        """The names of the tensors that nobody has asked for, sorted."""
        return tuple(sorted(name for name in self.tensors if self.tensors[name].name not in self._taken))

    def tensor(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """One tensor, whose shape must be as the config says.

        Raises:
            CheckpointError: it is missing, or of another shape or an unsupported dtype.
        """
        if name not in self.tensors:
            raise CheckpointError(
                f"checkpoint {self.folder}: tensor {name} is missing, which {CONFIG} asks for"
            )
        tensor = self.tensors[name]
        self._taken.add(tensor.name)
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
            raise CheckpointError(f"checkpoint {self.folder}: shard {shown(name)} lies outside the folder")
        try:
            is_there = path.is_file()
        except OSError:  # a name that is too long
            is_there = False
        if not is_there:
            raise CheckpointError(f"checkpoint {self.folder}: shard {at('', str(name))} is missing")
        return path


def read_header(file: Path) -> dict[str, Tensor]:
    """The tensors of one safetensors file.

    Raises:
        CheckpointError: the safetensors library refuses the file.
    """
    return {
        each.name: Tensor(each.name, file, each.dtype, each.shape, each.offset) for each in read_offsets(file)
    }


def _fault_of_place(folder: Path) -> str | None:
    """Why a path is no checkpoint, with the remedy; None where it may be one."""
    if folder.is_file():
        return f"is a file; {_conversion(folder) or 'give the folder with config.json and the weights'}"
    if not folder.is_dir():
        return f"no such folder; {_download(folder) or 'give a folder with config.json'}"
    adapter = next((name for name in ADAPTERS if (folder / name).is_file()), None)
    if adapter and not _has_own_adapter(folder):
        return (
            f"{adapter} is there: this is an adapter; give the folder of its base model, and this one as "
            "--lora (an adapter beside weights is moved to a folder of its own)"
        )
    if not (folder / CONFIG).is_file() and (trained := sorted(folder.glob(f"*{TRAINED}"))):
        return f"{CONFIG} is missing; {_conversion(trained[0])}"
    if (folder / CONFIG).is_file() or not (folder / "snapshots").is_dir():
        has_weights = any((folder / name).is_file() for name in (WEIGHTS, WEIGHTS_INDEX))
        if (folder / MANIFEST).is_file() and not has_weights:
            return (
                f"is an artifact ({MANIFEST} is there), which is built already; run it with fastadasp-export "
                "run, or give the checkpoint that it was built from"
            )
        return None
    return f"is a download cache; give the folder with config.json below {folder / 'snapshots'}"


def _has_own_adapter(folder: Path) -> bool:
    """Whether config.json says that the adapter beside it is a part of the model."""
    try:
        return read_object((folder / CONFIG).read_bytes(), lenient=True).get("has_lora_adapter") is True
    except (OSError, JsonError):
        return False  # which is told where the file is read


def _download(folder: Path) -> str | None:
    """How to get the model of a hub id, OWNER/NAME; None for a path of another shape."""
    if folder.is_absolute() or len(folder.parts) != 2 or folder.parent.exists() or ".." in folder.parts:
        return None
    command = f"hf download {folder.as_posix()} --local-dir {folder.name}"
    return f"download a model of the Hugging Face Hub first: {command}, and give {folder.name}"


def _conversion(file: Path) -> str:
    """What makes a folder of a file that a training has left; empty where it is none by its name."""
    command = f"fastadasp-export convert {file} -o DIR --tokenizer tokenizer.model"
    return f"a training checkpoint is converted first: {command}" if file.suffix == TRAINED else ""


def _other_weights(folder: Path) -> str:
    """Weights of other formats that lie in a folder, in words."""
    found = sorted(path.name for kind in ("*.bin", "*.gguf", "*.pt", "*.pth") for path in folder.glob(kind))
    return f" (but {found[0]}, which is not read)" if found else ""
