"""The audio rows that profiles really keep on some clips, and the prefill FLOPs that this saves."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from ....evaluation.answers.answers import ClipAnswers
from ....profiles.flops import prefill_flops
from ....runtime.artifact.manifest import Manifest


def mean_layer_rows(profiles: Sequence[str], measured: Sequence[ClipAnswers]) -> tuple[float, ...]:
    """Audio rows in the KV cache of each layer, the mean over clips and profiles."""
    rows = [found.costs[profile].layer_rows for found in measured for profile in profiles]
    return tuple(map(fmean, zip(*rows, strict=True)))


def achieved_reduction(
    manifest: Manifest, profiles: Sequence[str], measured: Sequence[ClipAnswers]
) -> float | None:
    """The share of the prefill FLOPs of all clips together that profiles of one method removed."""
    pairs = [_flops(manifest, profile, found) for profile in profiles for found in measured]
    if not pairs:
        return None
    full, reduced = map(sum, zip(*pairs, strict=True))
    return 1 - reduced / full


def _flops(manifest: Manifest, profile: str, found: ClipAnswers) -> tuple[int, int]:
    """FLOPs of the prefill of one clip: unreduced, and under a profile."""
    dims, resolved = manifest.decoder.dims, manifest.profiles[profile]
    audio, text = found.audio_rows or 0, found.text_rows or 0
    unreduced = [audio + text] * dims.num_layers
    full = prefill_flops(dims, unreduced, unreduced)
    if resolved.is_of_caches:
        return full, full
    attention = [rows + text for rows in found.costs[profile].layer_rows]
    span, _ = manifest.front_end.parted(attention[-1] - text, text, resolved.profile)
    left = attention[-1] - resolved.least_removed(
        span, resolved.ratios[-1]
    )  # no cache tells what its MLP has
    return full, prefill_flops(dims, attention, [*attention[1:], left])
