"""What clients call the model: NAME:PROFILE, or NAME alone; and which profile answers a request."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """The profile that answers a request, and why it is this one; None where the client named it."""

    profile: str
    reason: str | None = None


@dataclass(frozen=True)
class Models:
    """The profiles of one artifact under one name."""

    name: str
    profiles: tuple[str, ...]
    default: str  # of NAME alone

    @property
    def ids(self) -> tuple[str, ...]:
        """A name for each profile, the default one first."""
        others = (profile for profile in self.profiles if profile != self.default)
        return tuple(f"{self.name}:{profile}" for profile in (self.default, *others))

    def asked_profile(self, model: str) -> str | None:
        """What the field `model` of a request asks for, as `choose` takes it; None: no model of ours."""
        if model == self.name:
            return self.default
        name, colon, profile = model.rpartition(":")
        return profile if colon and name == self.name and profile in self.profiles else None

    def choose(self, asked: str, audio_seconds: float) -> Choice:
        """The profile for what `asked_profile` gave, once it is known how long the audio is.

        Of audio that is answered in segments `audio_seconds` is the longest that one may have.
        """
        return Choice(asked)
