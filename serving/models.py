"""What clients call the model: NAME:PROFILE, NAME:auto, or NAME alone; and what a profile is chosen for."""

from __future__ import annotations

from dataclasses import dataclass

from ..runtime.choice.choose import complete
from ..runtime.choice.figures import Figures
from ..runtime.choice.target import AUTO, Auto


@dataclass(frozen=True)
class Models:
    """The profiles of one artifact under one name."""

    name: str
    profiles: tuple[str, ...]
    default: str  # of NAME alone; may be `AUTO`
    figures: Figures | None = None  # of the profiles, by which one is chosen
    auto: Auto | None = None  # what for, where a request does not say it
    tells_words: bool = False  # when they begin, under every profile

    @property
    def ids(self) -> tuple[str, ...]:
        """A name for each profile, the default one first; and one for a choice, where there are figures."""
        known = (*self.profiles, *((AUTO,) if self._has_figures else ()))
        others = (profile for profile in known if profile != self.default)
        return tuple(f"{self.name}:{profile}" for profile in (self.default, *others))

    @property
    def loaded(self) -> str:
        """The profile that a worker is loaded under: the default one, or the first where that is chosen."""
        return self.profiles[0] if self.default == AUTO else self.default

    def asked_profile(self, model: str) -> str | None:
        """What the field `model` of a request asks for: a profile, or `AUTO`; None: no model of ours."""
        if model == self.name:
            return self.default
        name, colon, profile = model.rpartition(":")
        return profile if colon and name == self.name and profile in (*self.profiles, AUTO) else None

    def check_figures(self) -> None:
        """Refuse to choose where there is nothing to choose by; RequestError, with the remedy."""
        complete(self.figures)

    @property
    def _has_figures(self) -> bool:
        found = self.figures
        return found is not None and found.accuracy is not None and found.latency is not None
