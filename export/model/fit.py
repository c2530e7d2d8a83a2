"""Seconds of audio and reduction profiles in rows and ratios of one model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ...profiles.errors import ProfileError
from ...profiles.flops import ResolvedProfile, resolve
from ...profiles.profile import Profile
from .spec import EncoderSpec, PooledHead, SpeechModelSpec

ROWS_PER_WEIGHT = 2
"""Rows of the encoder in each direction of a block of attention that is one weight: those of a token."""


def resolve_for(profile: Profile, model: SpeechModelSpec) -> ResolvedProfile:
    """Fit a profile to a model: its reference request becomes rows of this model.

    Raises:
        InfeasibleError: a target that the model cannot reach.
        ProfileError: a ratio or a start layer that does not fit, or attention that the encoder cannot give.
    """
    if profile.traits.weighs_by_encoder and (fault := row_weights_fault(model)):
        raise ProfileError(f"profile {profile.name} ({profile.method}): {fault}; choose another method")
    audio = decoder_rows(model, float(profile.reference_audio_seconds))
    rows = model.front_end.parted(audio, profile.reference_text_tokens, profile)
    return resolve(profile, model.decoder.dims, *rows)


def idle_notes(profiles: Iterable[ResolvedProfile]) -> Iterator[str]:
    """What to say of those that reduce in the last layer alone, on one line."""
    if idle := [profile for profile in profiles if profile.is_idle]:
        names, last = ", ".join(profile.name for profile in idle), idle[0].reducing_layers[-1]
        yield (
            f"profile {names}: layer {last} is the last: the prefill computes one row after its attention, "
            "so a reduction there saves nothing, though FLOPs count it"
        )


def row_weights_fault(model: SpeechModelSpec) -> str | None:
    """Why the encoder of a model cannot say how much attention a row of the decoder gets in it.

    None where it can: the row is the mean of two rows of the encoder, all of which attend to one another.
    """
    encoder, needed = model.encoder, "it weighs rows by the attention in the encoder"
    if not isinstance(encoder, EncoderSpec) or model.wave_encoder is not None:
        return f"{needed}, and family {model.family} has another kind of encoder than Whisper's"
    if not isinstance(encoder.head, PooledHead) or model.front_end.rows_per_token != ROWS_PER_WEIGHT:
        return (
            f"{needed} in blocks of {ROWS_PER_WEIGHT} x {ROWS_PER_WEIGHT}, and a row of family "
            f"{model.family} is not the mean of {ROWS_PER_WEIGHT} rows of the encoder"
        )
    if encoder.attention_rows:
        return f"{needed}, and rows of family {model.family} attend to those of their own block alone"
    return None


def audio_tokens(model: SpeechModelSpec, seconds: float) -> int:
    """Audio tokens that the decoder gets for so many seconds, in whole windows and a rest."""
    return model.front_end.audio_tokens(_samples(model, seconds))


def decoder_rows(model: SpeechModelSpec, seconds: float) -> int:
    """Rows of `audio_embeds` for so many seconds: the tokens, and what the encoder sets around them."""
    return model.front_end.decoder_rows(_samples(model, seconds))


def _samples(model: SpeechModelSpec, seconds: float) -> int:
    return round(seconds * model.front_end.log_mel.sample_rate)


def profile_of(resolved: ResolvedProfile) -> Profile:
    """A profile that names the ratio, whatever it was solved for."""
    found = resolved.profile
    return Profile(
        found.name,
        found.method,
        found.schedule,
        found.start_layer,
        ratio=resolved.ratio,
        positions=found.positions,
    )
