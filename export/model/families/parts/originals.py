"""Families whose checkpoints come without a config.json, and what makes one of the shapes of tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol, cast

from .....profiles.errors import CheckpointError

Shapes = Mapping[str, tuple[int, ...]]
Encode = Callable[[str], Sequence[int]]

ORIGINALS = ("wavllm_original",)
"""Modules of this package."""


class Original(Protocol):
    """One of them."""

    def recognises(self, shapes: Shapes) -> bool:
        """Whether these are the tensors of this family."""

    def config_of(self, shapes: Shapes, encode: Encode) -> dict[str, Any]:
        """The settings, as the family reads them."""


def config_for(shapes: Shapes, encode: Encode) -> dict[str, Any]:
    """The config.json of a checkpoint that has none.

    Args:
        shapes: of every tensor, by name.
        encode: ids of a text, no others before or after them.

    Raises:
        CheckpointError: its tensors are those of no known family, or some are missing.
    """
    modules = (cast(Original, import_module(f".{name}", __package__)) for name in ORIGINALS)
    for module in modules:
        if module.recognises(shapes):
            return module.config_of(shapes, encode)
    known = ", ".join(name.removesuffix("_original") for name in ORIGINALS)
    raise CheckpointError(f"tensors such as {next(iter(shapes))} are of no known family; known: {known}")
