"""Seconds of audio and reduction profiles in rows and ratios of one model."""

from __future__ import annotations

from ...profiles.flops import ResolvedProfile, resolve
from ...profiles.profile import Profile
from .spec import SpeechModelSpec


def resolve_for(profile: Profile, model: SpeechModelSpec) -> ResolvedProfile:
    """Fit a profile to a model: its reference audio length becomes rows of this model."""
    rows = audio_rows(model, float(profile.reference_audio_seconds)) + int(profile.include_audio_bos)
    return resolve(profile, model.decoder.dims, rows)


def audio_rows(model: SpeechModelSpec, seconds: float) -> int:
    """Audio tokens that the decoder gets for so many seconds, in whole windows and a rest."""
    return model.front_end.audio_tokens(_samples(model, seconds))


def longest_audio(model: SpeechModelSpec, seconds: float) -> int:
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
