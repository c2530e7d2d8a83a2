"""A checkpoint folder looked at as a whole: its family, and everything that keeps it from being built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ...profiles.errors import CheckpointError
from ..checkpoint.checkpoint import Checkpoint, Tensor
from .facts import Facts
from .families.family import describe, family_of, known_families
from .spec import SpeechModelSpec


@dataclass(frozen=True)
class Survey:
    """What a folder is."""

    facts: Facts | None  # None: of no known family
    model: SpeechModelSpec | None  # with stand-ins for tensors that are faulty; None: its settings are
    faults: tuple[str, ...]  # none: it can be built


def survey(folder: Path) -> Survey:
    """Look at a checkpoint folder: the weights by their headers alone.

    A fault of the weights hides none of the settings; faults of the settings hide those of the tensors, whose
    shapes they decide.
    """
    facts, model, faults = None, None, list[str]()
    try:
        checkpoint = _Surveyed(folder)
        faults = checkpoint.faults
        family_of(checkpoint)
        facts = known_families()[checkpoint.config["model_type"]]
        model = describe(checkpoint)
    except CheckpointError as error:
        faults.append(str(error))
    return Survey(facts, model, tuple(dict.fromkeys(faults)))


class _Surveyed(Checkpoint):
    """A checkpoint that notes what is wrong with its tensors, and gives stand-ins for them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.faults: list[str] = []

    @cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        """All tensors by name; none where they cannot be read."""
        try:
            return super().tensors
        except CheckpointError as error:
            self.faults.append(str(error))
            return {}

    def tensor(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """One tensor, or one of the right shape in its place."""
        try:
            return super().tensor(name, shape)
        except CheckpointError as error:
            if self.tensors:  # without any, that is the fault
                self.faults.append(str(error))
            return Tensor(name, self.folder, "F32", shape, 0)
