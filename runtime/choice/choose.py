"""The profile that a budget asks for, and the figures that say why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...profiles.errors import ChoiceError, RequestError
from .acceptance import accepted, is_within, loss_in_words
from .figures import Accuracy, Figures, Latency, Loss, Machine
from .prediction import measured, predicted
from .target import AUTO, Auto


@dataclass(frozen=True)
class Choice:
    """A profile, and why it is that one: a sentence with the figures."""

    profile: str
    reason: str


@dataclass(frozen=True)
class Sizes:
    """What is known of a request when a profile is chosen for it."""

    audio_seconds: float
    beams: int


@dataclass(frozen=True)
class Candidate:
    """A profile that may be chosen."""

    profile: str
    loss: Loss
    audio_seconds: float
    seconds: float  # of prefill and decode of so much audio, predicted

    @property
    def lost(self) -> tuple[float, float]:
        """What it loses: at worst, then most likely."""
        return _worst(self.loss), self.loss.value


def choose(
    figures: Figures | None, profiles: Sequence[str], auto: Auto, sizes: Sizes, machine: Machine
) -> Choice:
    """Choose among the accepted profiles and the unreduced one that they were compared with.

    By a budget of time: of those that are predicted to be fast enough, the one that loses least at worst, by
    the upper end of its interval. By a budget of accuracy: the fastest one that loses no more at worst. Of
    equals, the faster one, then the one that loses less, then the first of the artifact.

    Args:
        figures: those of the artifact.
        profiles: of the artifact.
        auto: the budget.
        sizes: of the request.
        machine: what it runs on.

    Raises:
        RequestError: figures are missing, or no profile is within the budget; with the remedy.
    """
    accuracy, latency = complete(figures)
    losses = _losses(accuracy, profiles)
    among = [_candidate(latency, name, loss, sizes) for name, loss in losses.items()]
    _check_length(accuracy, sizes)
    found, why = _best(among, accuracy, auto)
    return Choice(found.profile, f"{_took(found, latency, sizes)}, {why}{_elsewhere(latency, machine)}")


def check_choice(figures: Figures | None, profiles: Sequence[str], auto: Auto, beams: int) -> None:
    """Refuse what leaves no profile to choose, whatever the length of the audio; errors as in `choose`.

    Every profile takes least at one of the lengths that were measured, not always the shortest, or at the
    longest that a profile may be chosen for.
    """
    accuracy, latency = complete(figures)
    longest = accuracy.clips.longest_seconds
    among = [
        _candidate(latency, name, loss, Sizes(min(time.audio_seconds, longest), beams))
        for name, loss in _losses(accuracy, profiles).items()
        for time in measured(latency, name, beams)
    ]
    _best(among, accuracy, auto)


def may_be_chosen(figures: Figures | None, profiles: Sequence[str], auto: Auto) -> tuple[str, ...]:
    """The profiles that a request may get, in the order of the artifact; errors as in `choose`."""
    accuracy, _ = complete(figures)
    budget = auto.accuracy_budget
    losses = _losses(accuracy, profiles)
    return tuple(name for name, loss in losses.items() if budget is None or is_within(_worst(loss), budget))


def complete(figures: Figures | None) -> tuple[Accuracy, Latency]:
    """Both kinds of figures.

    Raises:
        RequestError: one of them is missing; with the commands that make it.
    """
    if figures is None or figures.accuracy is None:
        raise RequestError(
            f"profile {AUTO}: the artifact holds no figures of accuracy; {_measured_with('CLIPS')}"
        )
    if figures.latency is None:
        raise RequestError(
            f"profile {AUTO}: the artifact holds no figures of latency; measure them with: bench ART "
            "-o bench.json, and take them in with: figures ART --latency bench.json"
        )
    return figures.accuracy, figures.latency


def _losses(accuracy: Accuracy, profiles: Sequence[str]) -> dict[str, Loss]:
    """Of those that may be chosen, in the order of the artifact."""
    losses = accepted(accuracy)
    if not (found := {name: losses[name] for name in profiles if name in losses}):
        raise RequestError(
            f"profile {AUTO}: the artifact holds neither an accepted profile nor {accuracy.against}, which "
            "they are compared with; name a profile, or build with it"
        )
    return found


def _worst(loss: Loss) -> float:
    return loss.value if loss.high is None else loss.high


def _candidate(latency: Latency, profile: str, loss: Loss, sizes: Sizes) -> Candidate:
    seconds = predicted(latency, profile, sizes.audio_seconds, sizes.beams)
    return Candidate(profile, loss, sizes.audio_seconds, seconds)


def _check_length(accuracy: Accuracy, sizes: Sizes) -> None:
    """Refuse audio longer than all clips that were measured: what profiles lose can grow with its length."""
    if sizes.audio_seconds > (longest := accuracy.clips.longest_seconds):
        raise ChoiceError(
            f"profile {AUTO}: no figures of accuracy for {sizes.audio_seconds:.1f} s of audio, only up to "
            f"{longest:g} s; {_measured_with('LONGER_CLIPS')}"
        )


def _measured_with(clips: str) -> str:
    return (
        f"measure them with: eval ART --manifest {clips} --max-loss POINTS -o eval.json, and take them in "
        "with: figures ART --accepted eval.json"
    )


def _best(among: Sequence[Candidate], accuracy: Accuracy, auto: Auto) -> tuple[Candidate, str]:
    """The best one, and why it is that one."""
    if auto.latency_budget is not None:
        found = _most_accurate(among, auto.latency_budget)
        why = f"within {auto.latency_budget:g} s; it loses least of those that are"
        return found, f"{why}, {_lost(found, accuracy)}"
    assert auto.accuracy_budget is not None, "an Auto has one budget"
    found = _fastest(among, auto.accuracy_budget)
    why = f"the fastest of those that lose at most {auto.accuracy_budget:g}"
    return found, f"{why}: it loses {_lost(found, accuracy)}"


def _most_accurate(among: Sequence[Candidate], budget: float) -> Candidate:
    """Of those that are fast enough."""
    if within := [found for found in among if found.seconds <= budget]:
        return min(within, key=lambda found: (found.lost[0], found.seconds, found.lost[1]))
    fastest = min(among, key=lambda found: found.seconds)
    raise ChoiceError(
        f"profile {AUTO}: none of the accepted ones is predicted to take at most {budget:g} s of prefill "
        f"and decode; the fastest, {fastest.profile}, takes {fastest.seconds:.3g} s for "
        f"{fastest.audio_seconds:.1f} s of audio: allow more, or name a profile"
    )


def _fastest(among: Sequence[Candidate], budget: float) -> Candidate:
    """Of those that lose no more."""
    if within := [found for found in among if is_within(found.lost[0], budget)]:
        return min(within, key=lambda found: (found.seconds, *found.lost))
    best = min(among, key=lambda found: found.lost)
    raise RequestError(
        f"profile {AUTO}: none of the artifact is accepted to lose at most {budget:g}; the best, "
        f"{best.profile}, loses {loss_in_words(best.loss)}: allow more, or name a profile"
    )


def _took(found: Candidate, latency: Latency, sizes: Sizes) -> str:
    return (
        f"{found.profile}: {found.seconds:.3g} s predicted for prefill and decode of "
        f"{sizes.audio_seconds:.1f} s of audio with {sizes.beams} beam{'s' * (sizes.beams > 1)} "
        f"({latency.new_tokens} tokens)"
    )


def _lost(found: Candidate, accuracy: Accuracy) -> str:
    """The loss of a candidate, and what it is of."""
    if found.profile == accuracy.against:
        return "nothing, for losses are against it"
    lost = f"{loss_in_words(found.loss)} of {accuracy.metric} against {accuracy.against}"
    return f"{lost} on {accuracy.clips.in_words}"


def _elsewhere(latency: Latency, machine: Machine) -> str:
    """That figures are of another machine, or of another number of threads."""
    if machine == latency.machine:
        return ""
    return f"; the times were measured on {latency.machine.in_words}, and this runs on {machine.in_words}"
