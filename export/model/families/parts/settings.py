"""Reading config.json with the defaults of the library that wrote it, and refusing what is not supported."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Protocol

from .....profiles.errors import CheckpointError

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
    **dict.fromkeys(("num_buckets", "max_bucket_distance"), 2**16),
    "chunk_length": 3600,
    **dict.fromkeys(("n_window", "n_window_infer"), 2**15),
    "downsample_hidden_size": 2**14,
    **dict.fromkeys(("min_length", "max_audio_len"), 2**24),
    **dict.fromkeys(("rms_norm_eps", "layer_norm_epsilon"), 1),
}
"""Key -> the largest number that any model could mean: far beyond those that exist, and still no danger."""

LEAST: Mapping[str, float] = {"rope_theta": 1.0, "rotary_emb_base": 1.0}
"""Key -> the least number that it can mean, where it is more than any above 0."""

SEARCH: Mapping[str, Any] = {
    "do_sample": False,
    "num_beams": 1,
    "num_beam_groups": 1,
    "num_return_sequences": 1,
    "early_stopping": False,
    "max_length": 20,
    "max_new_tokens": None,
    "min_length": 0,
    "min_new_tokens": 0,
    "length_penalty": 1.0,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "diversity_penalty": 0.0,
    "guidance_scale": 1.0,
    "renormalize_logits": False,
    "remove_invalid_values": False,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "min_p": None,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    **dict.fromkeys(("bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "sequence_bias")),
    **dict.fromkeys(("forced_bos_token_id", "forced_eos_token_id", "force_words_ids", "constraints")),
    **dict.fromkeys(("exponential_decay_length_penalty", "penalty_alpha", "stop_strings", "stop_words_ids")),
}
"""Setting of transformers' search -> the value that changes nothing."""

SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")
"""Those that change nothing without `do_sample`."""

COUNTS_INSTEAD = {"max_length": "max_new_tokens", "min_length": "min_new_tokens"}
"""Setting that counts the prompt as well -> the one that decides where both are there."""

SEARCH_IRRELEVANT = (
    *("eos_token_id", "pad_token_id", "bos_token_id", "decoder_start_token_id"),  # the first is used
    *("transformers_version", "_from_model_config", "use_cache", "cache_implementation"),
    *(
        "output_attentions",
        "output_hidden_states",
        "output_scores",
        "output_logits",
        "return_dict_in_generate",
    ),
    *("chat_format", "max_window_size"),  # of Qwen-Audio's own dialogues, whose text a request gives
)
"""Those of generation_config.json that say nothing on which tokens an answer has."""

CONFIG_IRRELEVANT = (
    *(
        "model_type",
        "architectures",
        "auto_map",
        "_name_or_path",
        "transformers_version",
        "dtype",
        "torch_dtype",
    ),
    *("_attn_implementation_autoset", "_attn_implementation", "attn_implementation", "tokenizer_class"),
    *(
        "return_dict",
        "use_return_dict",
        "output_attentions",
        "output_hidden_states",
        "use_cache",
        "torchscript",
    ),
    *("output_scores", "return_dict_in_generate", "use_bfloat16", "tf_legacy_loss", "pruned_heads", "prefix"),
    *("chunk_size_feed_forward", "is_decoder", "is_encoder_decoder", "add_cross_attention", "problem_type"),
    *("cross_attention_hidden_size", "tie_encoder_decoder", "finetuning_task", "id2label", "label2id"),
    *(
        "task_specific_params",
        "initializer_range",
        "init_std",
        "bos_token_id",
        "pad_token_id",
        "sep_token_id",
    ),
    *("eos_token_id", "decoder_start_token_id"),  # the first is used where generation_config.json has none
)
"""Settings of any config.json that say nothing on what a finished model computes."""


class Settings:
    """One section of a config, with defaults for the keys that its writer left out.

    Faults are kept, and stand-ins returned, until `refuse_faults` raises them all.
    """

    def __init__(self, place: str, values: object, defaults: Mapping[str, Any]) -> None:
        self.place, self.faults, self.used = place, list[str](), set[str]()
        if not isinstance(values, Mapping):
            self.faults.append(f"it is {shown(values)}, a JSON object is expected")
            values = {}
        self.given: dict[str, Any] = dict(values)
        self.values: dict[str, Any] = {**defaults, **values}

    def take(self, key: str) -> Any:
        """A setting of any type, which counts as used; None where it is absent."""
        self.used.add(key)
        return self.values.get(key)

    def count(self, key: str) -> int:
        """A whole number above 0; 1 where it is none."""
        value, most = self.take(key), MOST.get(key, LIMIT)
        if type(value) is int and 1 <= value <= most:
            return value
        return int(self._fault(key, "a whole number above 0", most))

    def number(self, key: str) -> float:
        """A number above 0, or of at least what `LEAST` has; 1 where it is none."""
        value, least = self.take(key), LEAST.get(key, 0.0)
        most = MOST.get(key, NUMBER_LIMIT)
        if type(value) in (int, float) and least <= value <= most and value > 0 and math.isfinite(value):
            return float(value)
        return self._fault(key, f"a number of at least {least:g}" if least else "a number above 0", most)

    def flag(self, key: str) -> bool:
        """A boolean; False where it is none."""
        value = self.take(key)
        if type(value) is not bool:
            self.faults.append(f"{key} is {shown(value)}, true or false is expected")
        return value is True

    def divides(self, divisor: str, key: str) -> None:
        """Refuse a count that another one does not divide."""
        parts, whole = self.count(divisor), self.count(key)
        if whole % parts:
            self.faults.append(f"{key} {whole} is not divisible by {divisor} {parts}")

    def require(self, **supported: Any) -> None:
        """Refuse every setting that is there with another value."""
        self.used |= supported.keys()
        self.faults += [
            f"{key} {shown(self.values[key])} is not supported (only {wanted!r})"
            for key, wanted in supported.items()
            if key in self.values and self.values[key] != wanted
        ]

    def alias(self, key: str, other: str) -> None:
        """Take a setting by its other name; refuse two names with two values."""
        self.used |= {key, other}
        if other not in self.values:
            return
        if key in self.given and self.given[key] != self.values[other]:
            self.faults.append(
                f"{key} is {shown(self.given[key])}, {other} {shown(self.values[other])}: they must be equal"
            )
        self.values[key] = self.values[other]

    def notes(self, irrelevant: Collection[str]) -> Iterator[str]:
        """Lines on the settings of the file that were not used and do matter, or may, once all are read."""
        left = {key: self.given[key] for key in sorted(self.given.keys() - self.used - set(irrelevant))}
        searching = {key: left.pop(key) for key in [*left] if key in SEARCH}
        if unknown := [_pair(key, value) for key, value in left.items() if value is not None]:
            yield f"{self.place}: not known and not used: {', '.join(unknown)}"
        yield from search_notes(self.place, searching)

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


def search_notes(place: str, values: Mapping[str, Any], used: Collection[str] = ()) -> Iterator[str]:
    """A line on the settings of search that a checkpoint suggests, and that no request takes from it."""
    samples = values.get("do_sample", False) is not False
    instead = {key for key, other in COUNTS_INSTEAD.items() if values.get(other) is not None}
    named = [
        _pair(key, value)
        for key, value in sorted(values.items())
        if not (
            value is None or key in (*SEARCH_IRRELEVANT, *instead, *used) or (key in SAMPLING and not samples)
        )
        and (key not in SEARCH or value != SEARCH[key])
    ]
    if named:
        yield (
            f"{place}: not taken from the checkpoint: {', '.join(named)}; give the options of search that "
            "you want with each request (there is no sampling, and lengths are those of answers: "
            "max_new_tokens)"
        )


class Section(Protocol):
    """Settings, and where they stand."""

    @property
    def place(self) -> str:
        """As messages call it."""

    @property
    def values(self) -> Mapping[str, Any]:
        """By key."""


def eos_ids(*sections: Section) -> tuple[int, ...]:
    """The end-of-sequence ids of the first section that has some.

    Raises:
        CheckpointError: one of them is no token id.
    """
    given = ((section.place, section.values.get("eos_token_id")) for section in sections)
    return end_tokens(*next(((place, value) for place, value in given if value is not None), ("", [])))


def end_tokens(place: str, found: Any) -> tuple[int, ...]:
    """One id or a list of them, which stands at that place; errors as in `eos_ids`."""
    ids: list[Any] = found if isinstance(found, list) else [found]
    if faults := [token for token in ids if type(token) is not int or not 0 <= token <= LIMIT]:
        raise CheckpointError(
            f"{place}: eos_token_id is {shown(faults[0])}, a token id of at least 0 is expected; take the "
            "settings of the original checkpoint"
        )
    return tuple(ids)


def _pair(key: str, value: object) -> str:
    return f"{key if key.isidentifier() and len(key) < 80 else shown(key)} {shown(value)}"


def shown(value: object) -> str:
    """A value of a file as a message shows it: never long, whatever it is."""
    return _BRIEF.repr(value)


_BRIEF = reprlib.Repr()
_BRIEF.maxlevel, _BRIEF.maxstring, _BRIEF.maxlong, _BRIEF.maxother = 3, 80, 40, 80
