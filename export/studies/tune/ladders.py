"""What is tried: for each method, schedule, start layer and kind of positions a ladder of FLOPs levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product

from ....profiles.errors import InfeasibleError, ProfileError
from ....profiles.methods import METHODS
from ....profiles.profile import Profile
from ....profiles.schedule import has_start_layer
from ....runtime.tables.units import in_percent
from ...model.fit import profile_of, resolve_for
from ...model.spec import SpeechModelSpec
from ..reach import check_saves
from ..reference_request import ReferenceRequest
from .options import TuneOptions


@dataclass(frozen=True)
class Candidate:
    """One profile that may be tried; it names the ratio that meets the level."""

    profile: Profile
    level: Fraction  # share of the prefill FLOPs

    @property
    def name(self) -> str:
        """The name of the profile in the artifact."""
        return self.profile.name


@dataclass(frozen=True)
class Ladder:
    """The candidates that differ in the level alone."""

    method: str
    schedule: str
    start_layer: int
    positions: str
    candidates: tuple[Candidate, ...] = ()  # of rising levels, the gentlest first
    beyond: Fraction | None = None  # the next level, which is out of reach
    unreachable: str | None = None  # why it is

    @property
    def last(self) -> Candidate | None:
        """The candidate of the highest level, None where none can be reached."""
        return self.candidates[-1] if self.candidates else None


def ladders_of(
    model: SpeechModelSpec, options: TuneOptions, reference: ReferenceRequest
) -> tuple[Ladder, ...]:
    """All ladders of a model; a level that cannot be reached, or saves nothing, ends its ladder.

    Raises:
        ProfileError: a start layer that the model lacks, a method that does not fit it, or no level can be
            reached at all.
    """
    layers = model.decoder.dims.num_layers
    starts = options.start_layers or default_start_layers(layers)
    if beyond := [start for start in starts if start >= layers]:
        raise ProfileError(f"start layer {beyond[0]} is out of range: the last layer is {layers - 1}")
    found = tuple(
        _with_candidates(model, options, reference, Ladder(*own))
        for own in dict.fromkeys(
            (method, schedule, start if has_start_layer(schedule) else 0, positions)
            for method, schedule, start, positions in product(
                options.methods, options.schedules, starts, options.positions
            )
            if schedule in METHODS[method].schedules
        )
    )
    if not any(ladder.candidates for ladder in found):
        raise ProfileError(f"no level can be reached: {found[0].unreachable}")
    return found


def default_start_layers(num_layers: int) -> tuple[int, ...]:
    """0, 2, a quarter, a third and a half of the layers, as far as they differ and exist."""
    wanted = {0, 2, num_layers // 4, num_layers // 3, num_layers // 2}
    return tuple(sorted(start for start in wanted if start < num_layers))


def _with_candidates(
    model: SpeechModelSpec, options: TuneOptions, reference: ReferenceRequest, ladder: Ladder
) -> Ladder:
    candidates: list[Candidate] = []
    for level in sorted(options.levels):
        try:
            check_saves(ladder.schedule, ladder.start_layer, model.decoder.dims.num_layers)
            profile = Profile(
                f"{_prefix(options, ladder)}-flops-{in_percent(level)}",
                ladder.method,
                ladder.schedule,
                ladder.start_layer,
                flops_reduction=level,
                reference_audio_seconds=reference.audio_seconds,
                reference_text_tokens=reference.text_rows,
                positions=ladder.positions,
            )
            candidates.append(Candidate(profile_of(resolve_for(profile, model)), level))
        except InfeasibleError as error:
            return replace(ladder, candidates=tuple(candidates), beyond=level, unreachable=str(error))
    return replace(ladder, candidates=tuple(candidates))


def told_apart(options: TuneOptions, ladder: Ladder) -> tuple[str, str]:
    """A ladder's method and positions, each empty where all ladders have the same."""
    method = ladder.method if len(options.methods) > 1 else ""
    return method, ladder.positions if len(options.positions) > 1 else ""


def _prefix(options: TuneOptions, ladder: Ladder) -> str:
    """What the names of a ladder's candidates begin with: all in which ladders differ."""
    method, positions = told_apart(options, ladder)
    parts = method, ladder.schedule, str(ladder.start_layer), positions
    return "-".join(part for part in parts if part)


def all_candidates(ladders: Sequence[Ladder]) -> list[Candidate]:
    """Every rung of every ladder."""
    return [candidate for ladder in ladders for candidate in ladder.candidates]
