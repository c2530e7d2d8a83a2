"""The figures that an artifact holds of its profiles: what each loses on clips, and how long it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


def clips_in_words(count: int, recordings: int) -> str:
    """A number of clips, with that of their recordings where several are of one."""
    shared = f" of {recordings} recordings" if recordings < count else ""
    return f"{count} clip{'s' * (count != 1)}{shared}"


@dataclass(frozen=True)
class MeasuredClips:
    """The clips that losses were measured on."""

    name: str  # of the clip list, without its folder
    digest: str  # SHA-256 of audio, references and prompts
    count: int  # that every profile has answered
    recordings: int  # that these are of: several may ask about one
    longest_seconds: float  # of their audio; what profiles lose on longer audio is not known

    @property
    def in_words(self) -> str:
        """For people: how many, of how many recordings, and how long the longest one is."""
        clips = clips_in_words(self.count, self.recordings)
        return f"{clips} of up to {self.longest_seconds:.1f} s of {self.name}"


@dataclass(frozen=True)
class Loss:
    """What a profile loses, in points as tables show them: above 0 is worse."""

    value: float
    low: float | None  # the ends of the paired 95 % interval, None where there is none
    high: float | None
    budget: float  # that it was measured for


@dataclass(frozen=True)
class Accuracy:
    """Losses of profiles against the unreduced one, all on the same clips."""

    task: str
    metric: str  # as people call it
    against: str  # the unreduced profile
    clips: MeasuredClips
    least_recordings: int  # fewer recordings tell nothing
    losses: Mapping[str, Loss]  # by profile


@dataclass(frozen=True)
class Machine:
    """What latencies belong to."""

    device: str  # execution providers, or the name of a GPU
    cpu: str | None
    threads: int | None  # of one run

    @property
    def in_words(self) -> str:
        """For people."""
        threads = self.threads and f"{self.threads} thread{'s' * (self.threads > 1)}"
        return ", ".join(part for part in (self.device, self.cpu, threads) if part)


@dataclass(frozen=True)
class Timed:
    """Prefill and decode of one length of audio, the median of several runs."""

    beams: int
    audio_seconds: float
    milliseconds: float


@dataclass(frozen=True)
class Latency:
    """How long profiles took on one machine."""

    machine: Machine
    new_tokens: int  # of every answer
    times: Mapping[str, tuple[Timed, ...]]  # by profile, in rising order of beams and seconds


@dataclass(frozen=True)
class Figures:
    """What was measured of the profiles of an artifact."""

    accuracy: Accuracy | None = None
    latency: Latency | None = None
