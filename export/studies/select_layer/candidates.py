"""The layers at which one merge can meet a FLOPs target, and the ratio that it takes at each.

Every layer has a ratio of its own, the smallest at which a single merge there removes the target. A later
layer needs a larger one, because fewer layers gain from it. So what is compared are the profiles that would
be built, all of one cost. In the last layer none saves anything: after its attention the prefill computes one
row alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from ....profiles.errors import InfeasibleError
from ....profiles.flops import ResolvedProfile
from ....profiles.profile import Profile
from ...model.fit import resolve_for
from ...model.spec import SpeechModelSpec
from ..reach import NOTHING_SAVED, most_removed
from ..reference_request import ReferenceRequest
from .options import SelectionOptions

METHOD, SCHEDULE = "weighted_merge", "single"


@dataclass(frozen=True)
class Candidate:
    """One layer, and what a merge there can do."""

    layer: int
    most: Fraction  # the largest share of the prefill FLOPs that one merge there removes
    resolved: ResolvedProfile | None = None  # the profile that meets the target
    infeasible: str | None = None  # why there is none


def candidate_layers(
    model: SpeechModelSpec, options: SelectionOptions, reference: ReferenceRequest
) -> list[Candidate]:
    """Every layer of a model, with the ratio that meets the target for a request."""
    return [_candidate(model, layer, options, reference) for layer in range(model.decoder.dims.num_layers)]


def _candidate(
    model: SpeechModelSpec, layer: int, options: SelectionOptions, reference: ReferenceRequest
) -> Candidate:
    try:
        most = most_removed(model.decoder.dims, SCHEDULE, layer, reference)
    except InfeasibleError:
        return Candidate(layer, Fraction(0), infeasible=NOTHING_SAVED)
    if most < options.flops_reduction:
        hundredths = int(most * 10_000)  # rounded down, so that asking for it succeeds
        return Candidate(layer, most, infeasible=f"at most {hundredths / 100:.2f} %")
    return Candidate(layer, most, resolve_for(_profile(layer, options, reference), model))


def _profile(layer: int, options: SelectionOptions, reference: ReferenceRequest) -> Profile:
    return Profile(
        options.name,
        METHOD,
        SCHEDULE,
        layer,
        flops_reduction=options.flops_reduction,
        reference_audio_seconds=reference.audio_seconds,
        reference_text_tokens=reference.text_rows,
        positions=options.positions,
    )
