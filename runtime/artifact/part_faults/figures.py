"""Faults of the figures that a manifest holds: what was measured, where, and of which profiles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ....profiles.faults import at, count_fault, shown
from ...choice.figures import Accuracy, Figures, Latency, Loss, Timed
from ...choice.prediction import in_order
from ..manifest import Manifest
from .fields import LARGEST, hash_fault, text_fault


def figures_faults(figures: Figures, manifest: Manifest) -> Iterator[str]:
    """Those of all figures."""
    if figures.accuracy:
        yield from _accuracy_faults("figures.accuracy", figures.accuracy, manifest)
    if figures.latency:
        yield from _latency_faults("figures.latency", figures.latency, manifest)


def _accuracy_faults(place: str, accuracy: Accuracy, manifest: Manifest) -> Iterator[str]:
    texts = {name: getattr(accuracy, name) for name in ("task", "metric", "against")}
    for name, text in {**texts, "clips.name": accuracy.clips.name}.items():
        yield from text_fault(f"{place}.{name}", text)
    yield from hash_fault(f"{place}.clips.digest", accuracy.clips.digest)
    clips = accuracy.clips
    yield from count_fault(f"{place}.clips.count", clips.count, 1, LARGEST)
    yield from count_fault(f"{place}.clips.recordings", clips.recordings, 1, LARGEST)
    if clips.recordings > clips.count:
        yield f"{place}.clips.recordings is {clips.recordings}, more than the {clips.count} clips of them"
    if not (longest := clips.longest_seconds) > 0:
        yield f"{place}.clips.longest_seconds is {longest}: it must be above 0"
    yield from count_fault(f"{place}.least_recordings", accuracy.least_recordings, 1, LARGEST)
    against = manifest.profiles.get(accuracy.against)
    if against is not None and against.profile.traits.reduces:
        yield f"{place}.against is {shown(accuracy.against)}, which removes rows"
    yield from _profiles_faults(f"{place}.losses", accuracy.losses, manifest)
    if accuracy.against in accuracy.losses:
        yield f"{at(f'{place}.losses', accuracy.against)}: the others are compared with it"
    for profile, loss in accuracy.losses.items():
        yield from _loss_faults(at(f"{place}.losses", profile), loss)


def _loss_faults(place: str, loss: Loss) -> Iterator[str]:
    if not loss.budget >= 0:
        yield f"{place}.budget is {loss.budget}: it must not be negative"
    if (loss.low is None) != (loss.high is None):
        yield f"{place}: an interval has two ends, or there is none"
    elif loss.low is not None and loss.high is not None and not loss.low <= loss.high:
        yield f"{place}.low is {loss.low}, above high, {loss.high}"


def _latency_faults(place: str, latency: Latency, manifest: Manifest) -> Iterator[str]:
    machine = latency.machine
    yield from text_fault(f"{place}.machine.device", machine.device)
    if machine.cpu is not None:
        yield from text_fault(f"{place}.machine.cpu", machine.cpu)
    if machine.threads is not None:
        yield from count_fault(f"{place}.machine.threads", machine.threads, 1, LARGEST)
    yield from count_fault(f"{place}.new_tokens", latency.new_tokens, 1, LARGEST)
    yield from _profiles_faults(f"{place}.times", latency.times, manifest)
    for profile, times in latency.times.items():
        yield from _times_faults(at(f"{place}.times", profile), times)


def _times_faults(place: str, times: tuple[Timed, ...]) -> Iterator[str]:
    if not times:
        yield f"{place} is empty"
    for i, time in enumerate(times):
        yield from count_fault(f"{place}[{i}].beams", time.beams, 1, LARGEST)
        for name in ("audio_seconds", "milliseconds"):
            if not (value := getattr(time, name)) > 0:
                yield f"{place}[{i}].{name} is {value}: it must be above 0"
    sizes = [(time.beams, time.audio_seconds) for time in times]
    if times != in_order(times) or len({*sizes}) < len(sizes):
        yield f"{place}: beams and seconds do not rise"


def _profiles_faults(place: str, found: Iterable[str], manifest: Manifest) -> Iterator[str]:
    """Figures of what is no profile."""
    for name in found:
        if name not in manifest.profiles:
            yield f"{place} has {shown(name)}, which is no profile of the artifact"
