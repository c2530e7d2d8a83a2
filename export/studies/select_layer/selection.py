"""The result of a layer selection: every layer with its figures, and what they come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ....evaluation.results.selection import LayerFigures, SelectionProtocol
from ....evaluation.results.settings import ClipList, Failure, Intervals
from ....profiles.profile import Profile
from ....runtime.environment import Environment
from .options import ENOUGH_FOR_ENTROPY

if TYPE_CHECKING:
    from .accuracy import LayerAccuracy


@dataclass(frozen=True)
class LayerSelection:
    """A finished selection with all that is needed to read it."""

    checkpoint: dict[str, Any]
    clips: ClipList
    protocol: SelectionProtocol
    intervals: Intervals  # of the ranks
    environment: Environment
    layers: tuple[LayerFigures, ...]
    selected: int
    profile: Profile
    failures: tuple[Failure, ...]  # clips without entropies
    accuracy: LayerAccuracy | None = None  # of merges at the layers, where it was asked for

    def with_accuracy(self, accuracy: LayerAccuracy) -> LayerSelection:
        """The same with what an evaluation says, beside the entropies."""
        return replace(self, accuracy=accuracy)

    @property
    def entropies(self) -> dict[int, float]:
        """Transfer entropy by layer, of those that can meet the target."""
        return {row.layer: row.entropy.transfer_entropy for row in self.layers if row.entropy is not None}

    @property
    def warnings(self) -> Iterator[str]:
        """Why the choice may mean less than it seems."""
        clips = self.clips.measured
        if clips < ENOUGH_FOR_ENTROPY:
            few = f"{clips} clip{'s' * (clips > 1)}"
            yield f"{few}: entropies need {ENOUGH_FOR_ENTROPY} or more to be trusted"
        if self._first_by_channel != self.selected:
            yield (
                f"at layer {self.selected} channels that gain and channels that lose entropy cancel: by L1, "
                f"layer {self._first_by_channel} is first"
            )

    @property
    def _first_by_channel(self) -> int:
        """The layer of the smallest L1."""
        found = ((row.entropy.per_channel, row.layer) for row in self.layers if row.entropy)
        return min(found)[1]
