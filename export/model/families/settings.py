"""Reading config.json with the defaults of the library that wrote it, and refusing what is not supported."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from typing import Any

from ....profiles.errors import CheckpointError

LIMIT = 2**31 - 1  # of a count that has none of its own
NUMBER_LIMIT = 1e12
MOST: Mapping[str, float] = {
    **dict.fromkeys(("num_hidden_layers", "encoder_layers", "n_layer"), 1000),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "encoder_attention_heads"), 2**14),
    **dict.fromkeys(("n_head", "head_dim", "kv_channels"), 2**14),
    **dict.fromkeys(("hidden_size", "d_model", "n_state", "output_dim"), 2**17),
    **dict.fromkeys(("intermediate_size", "encoder_ffn_dim"), 2**20),
    **dict.fromkeys(("vocab_size", "max_position_embeddings", "seq_length"), 2**24),
    **dict.fromkeys(("max_source_positions", "n_ctx"), 2**20),
    **dict.fromkeys(("num_mel_bins", "n_mels", "feature_size"), 2**12),
    **dict.fromkeys(("sampling_rate", "hop_length"), 2**20),
    "n_fft": 2**16,
    "chunk_length": 3600,
    **dict.fromkeys(("rms_norm_eps", "layer_norm_epsilon"), 1),
}
"""Key -> the largest number that any model could mean: far beyond those that exist, and still no danger."""


class Settings:
    """One section of a config, with defaults for the keys that its writer left out.

    Faults are kept, and stand-ins returned, until `refuse_faults` raises them all.
    """

    def __init__(self, place: str, values: object, defaults: Mapping[str, Any]) -> None:
        self.place, self.faults = place, list[str]()
        if not isinstance(values, Mapping):
            self.faults.append(f"it is {shown(values)}, a JSON object is expected")
            values = {}
        self.given = values
        self.values: dict[str, Any] = {**defaults, **values}

    def count(self, key: str) -> int:
        """A whole number above 0; 1 where it is none."""
        value, most = self.values.get(key), MOST.get(key, LIMIT)
        if type(value) is int and 1 <= value <= most:
            return value
        return int(self._fault(key, "a whole number above 0", most))

    def number(self, key: str) -> float:
        """A number above 0; 1 where it is none."""
        value: Any = self.values.get(key)
        most = MOST.get(key, NUMBER_LIMIT)
        if type(value) in (int, float) and 0 < value <= most and math.isfinite(value):
            return float(value)
        return self._fault(key, "a number above 0", most)

    def divides(self, divisor: str, key: str) -> None:
        """Refuse a count that another one does not divide."""
        parts, whole = self.count(divisor), self.count(key)
        if whole % parts:
            self.faults.append(f"{key} {whole} is not divisible by {divisor} {parts}")

    def require(self, **supported: Any) -> None:
        """Refuse every setting that is there with another value."""
        self.faults += [
            f"{key} {shown(self.values[key])} is not supported (only {wanted!r})"
            for key, wanted in supported.items()
            if key in self.values and self.values[key] != wanted
        ]

    def alias(self, key: str, other: str) -> None:
        """Take a setting by its other name; refuse two names with two values."""
        if other not in self.values:
            return
        if key in self.given and self.given[key] != self.values[other]:
            self.faults.append(
                f"{key} is {shown(self.given[key])}, {other} {shown(self.values[other])}: they must be equal"
            )
        self.values[key] = self.values[other]

    def _fault(self, key: str, expected: str, most: float) -> float:
        fault = f"{key} is {shown(self.values.get(key))}, {expected} is expected, at most {most:g}"
        if fault not in self.faults:
            self.faults.append(fault)
        return 1.0


def refuse_faults(*sections: Settings) -> None:
    """Raise the faults of all sections at once.

    Raises:
        CheckpointError: there are some.
    """
    faults = [f"{section.place}: {'; '.join(section.faults)}" for section in sections if section.faults]
    if faults:
        raise CheckpointError(f"{'; '.join(faults)}; take the settings of the original checkpoint")


def eos_ids(place: str, *sections: Mapping[str, Any]) -> tuple[int, ...]:
    """The end-of-sequence ids of the first section that has some."""
    given = (section.get("eos_token_id") for section in sections)
    found: Any = next((value for value in given if value is not None), [])
    ids = found if isinstance(found, list) else [found]
    if faults := [token for token in ids if type(token) is not int or not 0 <= token <= LIMIT]:
        raise CheckpointError(
            f"{place}: eos_token_id is {shown(faults[0])}, a token id of at least 0 is expected"
        )
    return tuple(ids)


def shown(value: object) -> str:
    """A value of a file as a message shows it: never long, whatever it is."""
    return _BRIEF.repr(value)


_BRIEF = reprlib.Repr()
_BRIEF.maxlevel, _BRIEF.maxstring, _BRIEF.maxlong, _BRIEF.maxother = 3, 80, 40, 80
