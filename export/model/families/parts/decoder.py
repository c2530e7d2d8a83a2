"""The decoder of the Llama kind by the names of transformers: Llama, Qwen2, Qwen3, Granite.

They share their layers and their names, and differ in which projections have biases, in norms of queries and
keys, and in constant factors. The `model_type` of a text config says which it is. Rotary positions are the
plain ones. What goes beyond them is refused; only positions in sections, which images need, are no other ones
where there is audio alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .....profiles.flops import DecoderDims
from ....checkpoint.checkpoint import Checkpoint
from ...spec import DecoderLayer, DecoderSpec, Linear
from .settings import CONFIG_IRRELEVANT, Settings, shown

ROPE_SECTIONS = ("rope_scaling", "rope_parameters")  # the newer one counts where both are there
ROPE_THETA = 10000.0
POSITION_SECTIONS = ("mrope_section", "mrope_interleaved", "interleaved")
FULL_ATTENTION = "full_attention"
IRRELEVANT = (
    *(*CONFIG_IRRELEVANT, "attention_dropout", "sliding_window", "max_window_layers"),
    *("pretraining_tp", "model_max_length"),
)
MULTIPLIERS = ("embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling")
BASE, HEAD = "language_model.model", "language_model.lm_head"
"""How the names of the decoder's tensors begin, and that of its head, where a speech model holds it."""


@dataclass(frozen=True)
class Kind:
    """What one `model_type` means."""

    has_head_norms: bool = False  # RMS norms of queries and keys
    qkv_bias: bool | None = None  # None: `attention_bias` says whether all four projections have biases
    has_multipliers: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)  # of the library, where they are not `DEFAULTS`


DEFAULTS: Mapping[str, Any] = {
    "hidden_size": 4096,
    "intermediate_size": 22016,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 151936,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "attention_bias": False,
}
LLAMA_DEFAULTS = {
    "intermediate_size": 11008,
    "num_key_value_heads": None,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
}
KINDS: Mapping[str, Kind] = {
    "qwen2": Kind(qkv_bias=True),
    "qwen3": Kind(has_head_norms=True, defaults={"head_dim": 128}),
    "llama": Kind(defaults=LLAMA_DEFAULTS),
    "granite": Kind(has_multipliers=True, defaults={**LLAMA_DEFAULTS, **dict.fromkeys(MULTIPLIERS, 1.0)}),
}
"""By `model_type`."""


@dataclass(frozen=True)
class DecoderSettings:
    """The text section of a config.json, read; its faults are in its two sections."""

    text: Settings
    rope: Settings
    kind: Kind
    dims: DecoderDims

    @property
    def sections(self) -> tuple[Settings, ...]:
        """For `refuse_faults`."""
        return self.text, self.rope

    def notes(self, *irrelevant: str) -> Iterator[str]:
        """Lines on what was not used, once all is read."""
        yield from self.text.notes((*IRRELEVANT, *irrelevant))
        yield from self.rope.notes(())

    def multiplier(self, name: str, otherwise: float = 1.0) -> float:
        """One of `MULTIPLIERS`, of a decoder that has them."""
        return self.text.number(name) if self.kind.has_multipliers else otherwise


def read_decoder_settings(
    place: str,
    values: object,
    model_type: str,
    *,
    defaults: Mapping[str, Any] | None = None,
    kind: Kind | None = None,
    has_position_sections: bool = False,
) -> DecoderSettings:
    """Read a text section; faults are kept in its sections.

    Args:
        place: how messages call it.
        values: the section, as config.json has it.
        model_type: what it must be.
        defaults: what the speech model's own config class says where the section is silent.
        kind: what the `model_type` means; one of `KINDS` by its name, unless it is given.
        has_position_sections: whether images would have positions in sections: all equal for audio alone.
    """
    kind = kind or KINDS[model_type]
    text = Settings(place, values, {**DEFAULTS, **kind.defaults, **(defaults or {})})
    text.require(
        model_type=model_type, hidden_act="silu", use_sliding_window=False, use_mrope=False, mlp_bias=False
    )
    layers = text.take("layer_types")
    if layers is not None and not (
        isinstance(layers, list) and all(each == FULL_ATTENTION for each in layers)
    ):
        text.faults.append(f"layer_types {shown(layers)} are not supported (only {FULL_ATTENTION!r})")
    if kind.qkv_bias is None:
        text.flag("attention_bias")
    settings = DecoderSettings(text, _rope(text, has_position_sections), kind, _dims(text))
    for name in MULTIPLIERS:
        settings.multiplier(name)
    text.number("rms_norm_eps")
    text.count("max_position_embeddings")
    text.take("tie_word_embeddings")
    return settings


def read_decoder(
    checkpoint: Checkpoint,
    settings: DecoderSettings,
    whole: Settings | None = None,
    base: str = BASE,
    head: str = HEAD,
) -> DecoderSpec:
    """Collect the decoder's tensors, checking every shape.

    Args:
        checkpoint: where they are.
        settings: without faults.
        whole: the settings of the speech model; it or its text section says whether the embedding is the
            head, where no head is stored.
        base: how the names of all tensors begin but for the head's.
        head: the name of the head, without `.weight`.

    Raises:
        CheckpointError: a tensor is missing or of another shape.
    """
    text, dims = settings.text, settings.dims
    table = (dims.vocab_size, dims.hidden_size)
    embedding = checkpoint.tensor(f"{base}.embed_tokens.weight", table)
    sections = (text, whole) if whole else (text,)
    ties = [section.take("tie_word_embeddings") for section in sections]  # all of them count as used
    tied = any(ties) and f"{head}.weight" not in checkpoint.tensors
    return DecoderSpec(
        dims=dims,
        norm_eps=text.number("rms_norm_eps"),
        rope_theta=settings.rope.number("rope_theta"),
        attention_scale=settings.multiplier("attention_multiplier", dims.head_dim**-0.5),
        max_positions=text.count("max_position_embeddings"),
        embedding=embedding,
        layers=tuple(_layer(checkpoint, settings, f"{base}.layers.{i}") for i in range(dims.num_layers)),
        final_norm=checkpoint.tensor(f"{base}.norm.weight", (dims.hidden_size,)),
        head=Linear(embedding if tied else checkpoint.tensor(f"{head}.weight", table)),
        embedding_multiplier=settings.multiplier("embedding_multiplier"),
        residual_multiplier=settings.multiplier("residual_multiplier"),
        logits_divisor=settings.multiplier("logits_scaling"),
    )


def _dims(text: Settings) -> DecoderDims:
    heads, hidden = text.count("num_attention_heads"), text.count("hidden_size")
    if text.values.get("num_key_value_heads") is None:
        text.values["num_key_value_heads"] = heads
    if text.values.get("head_dim") is None:
        text.divides("num_attention_heads", "hidden_size")
        text.values["head_dim"] = max(1, hidden // heads)
    text.divides("num_key_value_heads", "num_attention_heads")
    if (head_dim := text.count("head_dim")) % 2:
        text.faults.append(f"head_dim {head_dim} is odd, which rotary positions cannot be")
    return DecoderDims(
        num_layers=text.count("num_hidden_layers"),
        hidden_size=hidden,
        num_heads=heads,
        num_kv_heads=text.count("num_key_value_heads"),
        head_dim=head_dim,
        intermediate_size=text.count("intermediate_size"),
        vocab_size=text.count("vocab_size"),
    )


def _rope(text: Settings, has_position_sections: bool) -> Settings:
    """The rotary base, from every place where transformers has kept it; other scalings are refused."""
    given = {key: text.values[key] for key in ROPE_SECTIONS if text.take(key) is not None}
    theta = text.take("rope_theta")
    rope = Settings(f"{text.place}: rope", {"rope_theta": ROPE_THETA if theta is None else theta}, {})
    for key, values in given.items():
        section = Settings(key, values, {})
        section.require(rope_type="default", type="default", partial_rotary_factor=1.0)
        section.require(**{name: None for name, value in section.values.items() if isinstance(value, dict)})
        if has_position_sections:
            section.used |= set(POSITION_SECTIONS)
        else:
            section.require(mrope_section=None)
        rope.faults += [f"{key}: {fault}" for fault in section.faults]
        rope.values |= section.values
        rope.given |= section.values
        rope.used |= section.used
    rope.number("rope_theta")
    return rope


def _layer(checkpoint: Checkpoint, settings: DecoderSettings, base: str) -> DecoderLayer:
    dims, kind = settings.dims, settings.kind
    d, m = dims.hidden_size, dims.intermediate_size
    every_bias = kind.qkv_bias is None and settings.text.flag("attention_bias")
    qkv_bias = every_bias or bool(kind.qkv_bias)

    def linear(name: str, rows: int, columns: int, bias: bool = False) -> Linear:
        weight = checkpoint.tensor(f"{base}.{name}.weight", (rows, columns))
        return Linear(weight, checkpoint.tensor(f"{base}.{name}.bias", (rows,)) if bias else None)

    norms = ("q_norm", "k_norm") if kind.has_head_norms else ()
    query_norm, key_norm = [
        checkpoint.tensor(f"{base}.self_attn.{name}.weight", (dims.head_dim,)) for name in norms
    ] or (None, None)
    return DecoderLayer(
        attn_norm=checkpoint.tensor(f"{base}.input_layernorm.weight", (d,)),
        query=linear("self_attn.q_proj", dims.query_width, d, bias=qkv_bias),
        key=linear("self_attn.k_proj", dims.kv_width, d, bias=qkv_bias),
        value=linear("self_attn.v_proj", dims.kv_width, d, bias=qkv_bias),
        output=linear("self_attn.o_proj", d, dims.query_width, bias=every_bias),
        mlp_norm=checkpoint.tensor(f"{base}.post_attention_layernorm.weight", (d,)),
        gate=linear("mlp.gate_proj", m, d),
        up=linear("mlp.up_proj", m, d),
        down=linear("mlp.down_proj", d, m),
        query_norm=query_norm,
        key_norm=key_norm,
    )
