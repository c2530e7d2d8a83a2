"""The result of a layer selection: every layer with its figures, and what they come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from ....profiles.profile import Profile, profile_to_toml
from .entropy import TransferEntropy
from .options import ENOUGH_CLIPS
from .ranks import RankSpread

if TYPE_CHECKING:
    from .accuracy import LayerAccuracy

KIND, FORMAT_VERSION = "select-layer", 1


@dataclass(frozen=True)
class LayerFigures:
    """One layer. Where the target is out of its reach, `infeasible` tells why and the figures are absent."""

    layer: int
    reachable: float  # the largest share of the prefill FLOPs that one merge there removes
    ratio: Fraction | None = None  # share of the audio rows that meets the target
    entropy: TransferEntropy | None = None
    rank: int | None = None  # 1 is the smallest transfer entropy
    spread: RankSpread | None = None  # None for a single clip
    infeasible: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON takes it."""
        entropy = self.entropy
        return {
            **asdict(self),
            "ratio": None if self.ratio is None else str(self.ratio),
            "entropy": None if entropy is None else {"transfer_entropy": entropy.value, **asdict(entropy)},
        }


@dataclass(frozen=True)
class LayerSelection:
    """A finished selection with all that is needed to read it."""

    checkpoint: dict[str, Any]
    protocol: dict[str, Any]
    environment: dict[str, Any]
    layers: tuple[LayerFigures, ...]
    selected: int
    profile: Profile
    accuracy: LayerAccuracy | None = None  # of merges at the layers, where it was asked for

    def with_accuracy(self, accuracy: LayerAccuracy) -> LayerSelection:
        """The same with what an evaluation says, beside the entropies."""
        return replace(self, accuracy=accuracy)

    @property
    def entropies(self) -> dict[int, float]:
        """Transfer entropy by layer, of those that can meet the target."""
        return {row.layer: row.entropy.value for row in self.layers if row.entropy is not None}

    @property
    def warnings(self) -> Iterator[str]:
        """Why the choice may mean less than it seems."""
        clips: int = self.protocol["clips"]
        if clips < ENOUGH_CLIPS:
            yield f"{clips} clip{'s' * (clips > 1)}: entropies need {ENOUGH_CLIPS} or more to be trusted"
        if self._first_by_channel != self.selected:
            yield (
                f"at layer {self.selected} channels that gain and channels that lose entropy cancel: by L1, "
                f"layer {self._first_by_channel} is first"
            )
        if self.selected == len(self.layers) - 1:
            yield (
                f"layer {self.selected} is the last one, where TE is 0 whatever the clips hold: "
                "ask for a larger FLOPs reduction"
            )

    @property
    def _first_by_channel(self) -> int:
        """The layer of the smallest L1."""
        found = ((row.entropy.per_channel, row.layer) for row in self.layers if row.entropy)
        return min(found)[1]

    def to_json(self) -> dict[str, Any]:
        """As JSON takes it; what was not measured is None."""
        accuracy = self.accuracy
        return {
            "kind": KIND,
            "format_version": FORMAT_VERSION,
            "checkpoint": self.checkpoint,
            "protocol": self.protocol,
            "environment": self.environment,
            "selected": self.selected,
            "profile": profile_to_toml(self.profile),
            "warnings": list(self.warnings),
            "accuracy": None if accuracy is None else accuracy.to_json(self.entropies),
            "layers": [
                {
                    **row.to_json(),
                    "accuracy": None if accuracy is None else accuracy.layer_to_json(row.layer),
                }
                for row in self.layers
            ],
        }
