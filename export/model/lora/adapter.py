"""An adapter folder of peft: which tensors of its base model it changes, and how."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ....profiles.errors import CheckpointError
from ....profiles.faults import is_count, shown
from ....profiles.json_text import JsonError, read_object
from ...checkpoint.checkpoint import Tensor, read_header

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PICKLED = "adapter_model.bin"
PREFIX = "base_model.model."
WRAPPED = re.compile(r"\.(base_layer|modules_to_save)(?=\.)")  # parts of a name that the base model lacks
FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<table>embedding_)?(?P<side>[AB])(?:\.default)?(?:\.weight)?")
REFUSED_SETTINGS = {
    "use_dora": "DoRA scales every output by a norm of its own",
    "lora_bias": "its factors have biases",
    "layer_replication": "it repeats layers",
    "megatron_config": "it is cut for Megatron",
    "trainable_token_indices": "it changes single rows of the embedding",
    "target_parameters": "it changes parameters that are no matrices of a layer",
    "alora_invocation_tokens": "it is active after certain tokens alone",
}
"""Setting -> why an adapter that has it is not a sum of matrices."""
CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Values of `init_lora_weights` by which peft changes the base model before the adapter is added."""


@dataclass(frozen=True)
class Pair:
    """What is added to one matrix of the base model: scale * up @ down."""

    down: Tensor  # (r, in); of an embedding (r, words)
    up: Tensor  # (out, r); of an embedding (width, r)
    scale: float
    of_table: bool = False  # of an embedding, whose matrix is (words, width): the product is transposed

    @property
    def shape(self) -> tuple[int, int]:
        """That of the matrix."""
        rows, columns = self.up.shape[0], self.down.shape[1]
        return (columns, rows) if self.of_table else (rows, columns)


@dataclass(frozen=True)
class Adapter:
    """All changes, by the names that the tensors of the base model have in the model of transformers."""

    folder: Path
    pairs: Mapping[str, Pair] = field(repr=False)
    replaced: Mapping[str, Tensor] = field(repr=False)  # whole tensors: modules_to_save, biases
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> set[str]:
        """The tensors that are changed."""
        return {*self.pairs, *self.replaced}


def read_adapter(folder: Path) -> Adapter:
    """Read the settings and the headers; no weights.

    Raises:
        CheckpointError: it is no adapter, not one of LoRA, or one that is more than a sum of matrices.
    """
    settings = _settings(folder)
    if faults := list(_faults(settings)):
        raise CheckpointError(f"{folder / CONFIG}: {'; '.join(faults)}")
    tensors = read_header(folder / WEIGHTS)
    factors: dict[str, dict[str, Tensor]] = {}
    replaced: dict[str, Tensor] = {}
    tables = set()
    for name, tensor in tensors.items():
        inner = WRAPPED.sub("", name.removeprefix(PREFIX))
        if "lora_magnitude_vector" in inner:
            raise CheckpointError(f"{folder / WEIGHTS}: tensor {name}: {_refusal('use_dora')}")
        if found := FACTOR.fullmatch(inner):
            target = f"{found['module']}.weight"
            factors.setdefault(target, {})[found["side"]] = tensor
            tables |= {target} if found["table"] else set()
        elif ".lora_" in inner:
            raise CheckpointError(f"{folder / WEIGHTS}: tensor {name} is of a form that is not known")
        else:
            replaced[inner] = tensor
    pairs = {name: _pair(folder, settings, name, sides, name in tables) for name, sides in factors.items()}
    if not pairs and not replaced:
        raise CheckpointError(f"{folder / WEIGHTS}: no tensor is there; save the adapter again")
    return Adapter(folder, pairs, replaced, tuple(_notes(folder, settings)))


def _settings(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise CheckpointError(f"adapter {folder}: no such folder; give one with {CONFIG} and {WEIGHTS}")
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"adapter {folder}: {CONFIG} is missing; give the folder that peft has saved")
    if not (folder / WEIGHTS).is_file():
        pickled = (
            f" (but {PICKLED}, which may run code and is not read)" if (folder / PICKLED).is_file() else ""
        )
        raise CheckpointError(
            f"adapter {folder}: {WEIGHTS} is missing{pickled}; "
            "save it with save_pretrained(safe_serialization=True)"
        )
    try:
        return read_object((folder / CONFIG).read_bytes(), lenient=True)
    except JsonError as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}; copy it again") from None


def _faults(settings: Mapping[str, Any]) -> Iterator[str]:
    if settings.get("peft_type") != "LORA":
        yield f"peft_type is {shown(settings.get('peft_type'))}; only LORA is folded"
    yield from (_refusal(name) for name in REFUSED_SETTINGS if settings.get(name))
    start = settings.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(CHANGES_BASE):
        yield (
            f"init_lora_weights {start!r}: such an adapter belongs to a base model that peft has changed; "
            "save it with path_initial_model_for_weight_conversion, or merge it with peft"
        )
    if not is_count(settings.get("r"), 1):
        yield f"r is {shown(settings.get('r'))}: a whole number above 0 is expected"
    if not _is_number(settings.get("lora_alpha")):
        yield f"lora_alpha is {shown(settings.get('lora_alpha'))}: a number is expected"
    patterns: dict[str, Callable[[object], bool]] = {"rank_pattern": _is_rank, "alpha_pattern": _is_number}
    for name, fits in patterns.items():
        table = settings.get(name) or {}
        if not isinstance(table, dict) or not all(map(fits, table.values())):
            yield f"{name} is {shown(table)}: patterns of module names with a number each are expected"
        else:
            yield from (f"{name}: {shown(key)} is no pattern" for key in table if not _compiles(key))


def _refusal(setting: str) -> str:
    return (
        f"{setting}: {REFUSED_SETTINGS[setting]}, so it is not folded; merge it with peft (merge_and_unload)"
    )


def _is_rank(value: object) -> bool:
    return is_count(value, 1)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def _notes(folder: Path, settings: Mapping[str, Any]) -> Iterator[str]:
    if settings.get("fan_in_fan_out"):
        yield (
            f"{folder / CONFIG}: fan_in_fan_out is for layers that hold their matrix transposed, which this "
            "model has none of: not transposed, as peft does it"
        )


def _pair(
    folder: Path, settings: Mapping[str, Any], name: str, sides: Mapping[str, Tensor], table: bool
) -> Pair:
    """The two factors of one matrix, and the scale of peft: alpha / r, or alpha / sqrt(r) for rsLoRA."""
    place = f"{folder / WEIGHTS}: {name.removesuffix('.weight')}"
    if missing := {"A", "B"} - sides.keys():
        raise CheckpointError(f"{place}: lora_{min(missing)} is missing; save the adapter again")
    down, up = sides["A"], sides["B"]
    if len(down.shape) != 2 or len(up.shape) != 2:
        raise CheckpointError(
            f"{place}: factors {list(down.shape)} and {list(up.shape)} are those of a convolution, which is "
            "not folded; merge it with peft (merge_and_unload)"
        )
    module = name.removesuffix(".weight")
    rank = _of_pattern(settings.get("rank_pattern"), module, settings["r"])
    alpha = _of_pattern(settings.get("alpha_pattern"), module, settings["lora_alpha"])
    if not down.shape[0] == up.shape[1] == rank:
        raise CheckpointError(
            f"{place}: factors {list(down.shape)} and {list(up.shape)} are not of rank {rank}, which "
            f"{CONFIG} asks for; take the settings and the weights of one adapter"
        )
    return Pair(down, up, alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank), table)


def _of_pattern(table: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    """The value of the first pattern that is the end of a module's name, as peft finds it."""
    return next(
        (value for key, value in (table or {}).items() if re.fullmatch(rf"(.*\.)?({key})", module)), default
    )
