"""Reduction profiles: what to reduce, where, and by how much."""

from .errors import ProfileError
from .flops import (
    DecoderDims,
    LayerRow,
    ResolvedProfile,
    decode_step_flops,
    flops_reduction,
    kv_bytes,
    layer_flops,
    prefill_flops,
    profile_table,
    resolve,
    scoring_flops,
)
from .methods import METHODS, Method
from .profile import Profile, builtin_names, load_profile, parse_profile, profile_to_toml
from .schedule import SCHEDULES, TokenCounts, layer_ratios, removed, token_counts

__all__ = [
    "METHODS",
    "SCHEDULES",
    "DecoderDims",
    "LayerRow",
    "Method",
    "Profile",
    "ProfileError",
    "ResolvedProfile",
    "TokenCounts",
    "builtin_names",
    "decode_step_flops",
    "flops_reduction",
    "kv_bytes",
    "layer_flops",
    "layer_ratios",
    "load_profile",
    "parse_profile",
    "prefill_flops",
    "profile_table",
    "profile_to_toml",
    "removed",
    "resolve",
    "scoring_flops",
    "token_counts",
]
