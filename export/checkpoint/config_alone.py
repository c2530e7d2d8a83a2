"""A checkpoint known by its settings alone: every tensor is a stand-in of the shape that they ask for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from .checkpoint import WEIGHTS, WEIGHTS_INDEX, Checkpoint, Tensor


class ConfigAlone(Checkpoint):
    """A folder whose weights and tokenizer are not opened, whether it has any or not."""

    reads_tokenizer = False

    @cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        """None: what is asked for is made up, and nothing else is there."""
        return {}

    def tensor(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """A tensor that may be counted and not read."""
        return Tensor(name, self.folder, "F32", shape, 0)


def has_weights(folder: Path) -> bool:
    """Whether a build would find weights there."""
    return any((folder / name).is_file() for name in (WEIGHTS, WEIGHTS_INDEX))
