"""The protocol of a family, and the list of known ones."""

from __future__ import annotations

from importlib import import_module
from typing import Protocol, cast

from ....profiles.errors import CheckpointError
from ...checkpoint.checkpoint import Checkpoint
from ..spec import SpeechModelSpec

FAMILIES = {"qwen2_audio": ".qwen2_audio", "qwen": ".qwen_audio"}
"""`model_type` of config.json -> module with a function `load`."""


class Family(Protocol):
    """A module of this package."""

    def load(self, checkpoint: Checkpoint) -> SpeechModelSpec:
        """Describe a checkpoint by role.

        Raises:
            CheckpointError: a setting or a tensor that this family does not support.
        """


def load_model(checkpoint: Checkpoint) -> SpeechModelSpec:
    """Describe a checkpoint of any known family."""
    model_type = checkpoint.config.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise CheckpointError(
            f"{checkpoint.folder}/config.json: model_type {model_type!r} is not supported; "
            f"known: {', '.join(sorted(FAMILIES))}"
        )
    family = cast(Family, import_module(FAMILIES[model_type], __package__))
    return family.load(checkpoint)
