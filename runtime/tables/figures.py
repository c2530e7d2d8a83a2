"""The figures that an artifact holds of its profiles, as tables for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator

from ..choice.acceptance import loss_in_words, verdicts
from ..choice.figures import Accuracy, Figures, Latency
from .tables import Section, columns
from .units import milliseconds, seconds

HASH_CHARACTERS = 12


def figures_sections(figures: Figures) -> Iterator[Section]:
    """What profiles lose and whether they are accepted, and how long they take."""
    if figures.accuracy:
        yield _accuracy(figures.accuracy)
    if figures.latency:
        yield _latency(figures.latency)


def _accuracy(accuracy: Accuracy) -> Section:
    table = columns("profile", "loss, points", "budget", "accepted", left=1)
    for profile, found in verdicts(accuracy):
        loss = accuracy.losses[profile]
        outcome = "yes" if found.is_accepted else f"no: {found.outcome}"
        table.add_row(profile, loss_in_words(loss), f"{loss.budget:g}", outcome)
    clips = accuracy.clips
    return Section(
        f"accuracy: {accuracy.metric} ({accuracy.task}) lost against {accuracy.against}",
        table,
        f"{clips.in_words}, SHA-256 {clips.digest[:HASH_CHARACTERS]}; accepted: the upper end is within the "
        f"budget, and there are at least {accuracy.least_recordings} recordings",
    )


def _latency(latency: Latency) -> Section:
    """A row for each number of beams and length, a column for each profile."""
    table = columns("beams", "audio", *(f"{profile}, ms" for profile in latency.times), left=0)
    found = {
        (time.beams, time.audio_seconds, profile): time.milliseconds
        for profile, times in latency.times.items()
        for time in times
    }
    for beams, length in sorted({(beams, length) for beams, length, _ in found}):
        row = (milliseconds(found.get((beams, length, profile))) for profile in latency.times)
        table.add_row(str(beams), f"{seconds(length)} s", *row)
    legend = f"{latency.new_tokens} tokens, medians; on {latency.machine.in_words}"
    return Section("latency: prefill and decode", table, legend)
