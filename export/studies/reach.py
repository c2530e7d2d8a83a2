"""How much of the prefill a schedule can save at most, and where it saves nothing."""

from __future__ import annotations

from fractions import Fraction

from ...profiles.errors import InfeasibleError
from ...profiles.flops import LARGEST_RATIO, DecoderDims, flops_reduction
from ...profiles.schedule import input_ratio, layer_ratios
from .reference_request import ReferenceRequest

NOTHING_SAVED = "the last layer: nothing is saved"
"""What a merge in that layer alone comes to: after its attention the prefill computes one row."""


def most_removed(dims: DecoderDims, schedule: str, start_layer: int, reference: ReferenceRequest) -> Fraction:
    """The largest share of the prefill FLOPs of a request that a schedule can remove.

    Raises:
        InfeasibleError, ProfileError: as `check_saves`.
    """
    check_saves(schedule, start_layer, dims.num_layers)
    ratios = layer_ratios(schedule, start_layer, LARGEST_RATIO, dims.num_layers)
    at_input = input_ratio(schedule, LARGEST_RATIO)
    return flops_reduction(dims, reference.audio_tokens, reference.other_rows, ratios, at_input)


def check_saves(schedule: str, start_layer: int, num_layers: int) -> None:
    """Refuse a schedule that reduces in the last layer alone, which saves nothing, though FLOPs count it.

    Raises:
        InfeasibleError: it does.
        ProfileError: a start layer that the model lacks.
    """
    ratios = layer_ratios(schedule, start_layer, LARGEST_RATIO, num_layers)
    if not input_ratio(schedule, LARGEST_RATIO) and not any(ratios[:-1]):
        raise InfeasibleError(
            f"schedule {schedule!r} cannot start at the last layer, {start_layer}, where nothing is saved: "
            "start earlier or reduce at the input"
        )
