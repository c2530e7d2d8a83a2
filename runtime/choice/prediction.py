"""How long a profile takes for a length of audio, between the lengths that were measured."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from ...profiles.errors import ChoiceError, RequestError
from .figures import Latency, Timed
from .target import AUTO


def predicted(latency: Latency, profile: str, audio_seconds: float, beams: int) -> float:
    """Seconds of prefill and decode.

    Between two lengths it is linear, which is no less than the truth where time grows faster than length, as
    that of attention does. Audio below the shortest length takes at most what that took. Beyond the longest
    one nothing is known.

    Raises:
        RequestError: no figures for the profile, the beams or the length; with the command that makes them.
    """
    times = measured(latency, profile, beams)
    if audio_seconds > (longest := times[-1].audio_seconds):
        what = f"{audio_seconds:.1f} s of audio and {_under(profile, beams)}, only up to {longest:g} s"
        raise ChoiceError(_missing(what, "with a longer one in --audio-seconds"))
    return _between(times, audio_seconds) / 1e3


def measured(latency: Latency, profile: str, beams: int) -> list[Timed]:
    """The times of a profile with so many beams, in rising order of seconds; errors as in `predicted`."""
    every = latency.times.get(profile, ())
    if not every:
        raise RequestError(_missing(f"profile {profile}", f"with --profile {profile} among others"))
    if times := [time for time in every if time.beams == beams]:
        return times
    had = ",".join(map(str, dict.fromkeys(time.beams for time in every)))
    raise RequestError(_missing(f"{_under(profile, beams)}, only for {had}", f"with --beams {had},{beams}"))


def _under(profile: str, beams: int) -> str:
    return f"{beams} beam{'s' * (beams > 1)} under profile {profile}"


def _between(times: list[Timed], seconds: float) -> float:
    """Milliseconds at a length that is no more than the longest one."""
    for low, high in pairwise(times):
        if low.audio_seconds <= seconds <= high.audio_seconds:
            share = (seconds - low.audio_seconds) / (high.audio_seconds - low.audio_seconds)
            return (1 - share) * low.milliseconds + share * high.milliseconds
    return times[0].milliseconds if seconds <= times[0].audio_seconds else times[-1].milliseconds


def _missing(what: str, option: str) -> str:
    return (
        f"profile {AUTO}: no figures of latency for {what}; measure them with: bench ART -o bench.json, "
        f"{option}, and take them in with: figures ART --latency bench.json"
    )


def in_order(times: Iterable[Timed]) -> tuple[Timed, ...]:
    """Times as `Latency` holds them."""
    return tuple(sorted(times, key=lambda time: (time.beams, time.audio_seconds)))
