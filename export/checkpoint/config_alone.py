"""A checkpoint known by its settings alone: every tensor is a stand-in of the shape that they ask for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from .checkpoint import WEIGHTS, WEIGHTS_INDEX, Checkpoint, Tensor

NAMED_BY = "dtype", "torch_dtype"
STORED = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""What settings call a number format -> what safetensors calls it."""
USUAL = "BF16"


class ConfigAlone(Checkpoint):
    """A folder whose weights and tokenizer are not opened, whether it has any or not."""

    reads_tokenizer = False

    @cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        """None: what is asked for is made up, and nothing else is there."""
        return {}

    def tensor(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """A tensor that may be counted and not read."""
        return Tensor(name, self.folder, self._stored, shape, 0)

    @cached_property
    def _stored(self) -> str:
        """The number format that the settings name, or the one that most checkpoints have."""
        text = self.config.get("text_config")
        named = [part.get(key) for part in (self.config, text) if isinstance(part, dict) for key in NAMED_BY]
        return next((STORED[name] for name in named if name in STORED), USUAL)


def has_weights(folder: Path) -> bool:
    """Whether a build would find weights there."""
    return any((folder / name).is_file() for name in (WEIGHTS, WEIGHTS_INDEX))
