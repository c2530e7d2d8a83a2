"""What a checkpoint holds beside the plain weights of its model: refused or named, never dropped."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from ...profiles.errors import CheckpointError
from .checkpoint import CONFIG, Checkpoint

QUANTIZED = re.compile(
    r"\.(qweight|qzeros|g_idx|SCB|absmax|quant_map|quant_state\..+|nested_absmax|weight_packed|weight_scale"
    r"|weight_scale_inv|scales|input_scale|weight_zero_point|weight_shape)$"
)
"""How the tensors of GPTQ, AWQ, bitsandbytes, fp8 and compressed-tensors end."""

ADAPTER = re.compile(r"\.(lora_[A-Za-z_]+|base_layer|modules_to_save)\.|\.lora_magnitude_vector$")
"""What stands in the names of tensors that peft has wrapped."""

IRRELEVANT = re.compile(
    r"(^|\.)(rotary_emb\.inv_freq|position_ids|attn\.bias|attn\.masked_bias|logn_tensor"
    r"|num_batches_tracked)$"
)
"""Tensors that old versions compute from the config, and counters of training: no weights."""

QUANTIZATION_KEYS = ("quantization_config", "compression_config")
SHOWN = 4  # names in one message
FLOAT_REMEDY = (
    "quantised weights are not read; give the float checkpoint that it was made from, or load it with "
    "transformers, call dequantize() and save_pretrained()"
)


def refuse_quantized(checkpoint: Checkpoint) -> None:
    """Refuse weights that are no plain numbers.

    Raises:
        CheckpointError: the config says that they are quantised, or names of tensors do, or an adapter's.
    """
    for place, section in _sections(checkpoint.config):
        for key in QUANTIZATION_KEYS:
            if section.get(key) is not None:
                raise CheckpointError(
                    f"{checkpoint.folder / CONFIG}: {place}{key}: {_method(section[key])}: {FLOAT_REMEDY}"
                )
    if names := [name for name in checkpoint.tensors if QUANTIZED.search(name)]:
        raise CheckpointError(f"checkpoint {checkpoint.folder}: tensors {few(names)}: {FLOAT_REMEDY}")
    if names := [name for name in checkpoint.tensors if ADAPTER.search(name)]:
        raise CheckpointError(
            f"checkpoint {checkpoint.folder}: tensors {few(names)} are those of an adapter; merge it into "
            "its base model with peft (merge_and_unload, then save_pretrained)"
        )


def unused_tensors(
    checkpoint: Checkpoint, layer_counts: Mapping[str, str], others: Mapping[str, str] | None = None
) -> Iterator[str]:
    """A line on the tensors that no part of the model has taken, once all its parts are read.

    Args:
        checkpoint: by the names of its family.
        layer_counts: how the names of layers begin, up to their number -> the setting that counts them.
        others: how the names of parts begin that are never read -> what they are.

    Raises:
        CheckpointError: some belong to layers beyond those that the config counts.
    """
    unused = [name for name in checkpoint.unused if not IRRELEVANT.search(name)]
    for prefix, part in (others or {}).items():
        if count := sum(name.startswith(prefix) for name in unused):
            tensors = f"{count} tensor{'s' if count > 1 else ''} {prefix}*"
            yield f"checkpoint {checkpoint.folder}: not read: {part} ({tensors})"
        unused = [name for name in unused if not name.startswith(prefix)]
    taken = checkpoint.tensors.keys() - unused
    for prefix, key in layer_counts.items():
        number = re.compile(re.escape(prefix) + r"(\d+)\.")
        numbers = [int(found[1]) for name in taken if (found := number.match(name))]
        count = 1 + max(numbers, default=-1)  # none is there for a survey of a folder that has no weights
        beyond = [name for name in unused if (found := number.match(name)) and int(found[1]) >= count]
        if beyond:
            raise CheckpointError(
                f"{checkpoint.folder / CONFIG}: {key} is {count}, but the checkpoint has {few(beyond)}; take "
                "the config.json of these weights"
            )
    if unused:
        yield f"checkpoint {checkpoint.folder}: the model has no such part, not used: tensors {few(unused)}"


def few(names: list[str]) -> str:
    """Some names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _sections(config: Mapping[str, object]) -> Iterator[tuple[str, Mapping[str, object]]]:
    """The config itself and the objects in it, each with its place."""
    yield "", config
    for key, value in config.items():
        if isinstance(value, dict):
            yield f"{key}: ", value


def _method(value: object) -> str:
    """A quantisation by its name and its bits, where these are told."""
    if not isinstance(value, dict):
        return "of an unknown kind"
    told = [f"{key} {str(value[key])[:40]}" for key in ("quant_method", "bits", "fmt") if key in value]
    return ", ".join(told) or "of an unnamed kind"
