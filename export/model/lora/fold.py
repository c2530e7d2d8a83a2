"""W + scale * B A in place of every matrix that an adapter changes, in float32 as it is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from ....profiles.errors import CheckpointError
from ....runtime.artifact.artifact import record_of
from ....runtime.artifact.manifest import FoldedAdapter
from ...checkpoint.checkpoint import Checkpoint, Tensor
from ...checkpoint.contents import few
from ...checkpoint.derived import ADAPTED, Derived, Weight
from ..spec import SpeechModelSpec, tensors_of, with_parts
from .adapter import WEIGHTS, Adapter, Pair

OF_TEXT = "language", "text", "llm"  # how decoders are called in memory, whatever they are on disk
OWN = "the checkpoint's own"  # name of an adapter beside the weights
Floats = npt.NDArray[np.float32]
PARTS = "encoder", "wave_encoder", "decoder"  # of a model that have weights
Whole = Mapping[str, Weight]
"""Name of a tensor on disk -> the whole of it as the adapter changes it."""


@dataclass(frozen=True)
class Read:
    """The tensors that a model is read from, by their names on disk."""

    tower: frozenset[str]
    decoder: frozenset[str]

    @property
    def whole(self) -> frozenset[str]:
        """Those of all parts."""
        return self.tower | self.decoder


def with_adapter(model: SpeechModelSpec, checkpoint: Checkpoint, adapter: Adapter) -> SpeechModelSpec:
    """The model whose weights are changed as peft would merge them.

    Raises:
        CheckpointError: the adapter is of another base model, or changes what this model does not have or
            shares between two parts.
    """
    whole, read = {}, Read(frozenset(_read_by(model.tower)), frozenset(_read_by(model.decoder)))
    for name in sorted(adapter.names):
        tensor = base_tensor(checkpoint, adapter, name, read)
        whole[tensor.name] = _changed(adapter, name, tensor)
    if unread := whole.keys() - read.whole:
        raise CheckpointError(
            f"adapter {adapter.folder}: it changes {few(sorted(unread))}, which no graph of this model reads"
        )
    _refuse_tied(model, adapter, whole)
    change = partial(_replaced, whole=whole, checkpoint=checkpoint)
    parts = {name: with_parts(getattr(model, name), Weight, change) for name in PARTS}
    together = (_together(model, adapter),) if model.adapters else ()
    return replace(
        model,
        notes=(*model.notes, *adapter.notes, *together),
        adapters=(*model.adapters, _record(adapter, checkpoint)),
        **parts,
    )


def _record(adapter: Adapter, checkpoint: Checkpoint) -> FoldedAdapter:
    """What an artifact tells of it; a folder of its own names it, that of the checkpoint does not."""
    ranks = {pair.down.shape[0] for pair in adapter.pairs.values()}
    weights = record_of(adapter.folder / WEIGHTS)
    folder = adapter.folder.resolve()
    name = OWN if folder == checkpoint.folder.resolve() else folder.name
    shown_name = name if name.isprintable() else ascii(name)
    return FoldedAdapter(shown_name, weights.blake3, tuple(sorted(ranks)), len(adapter.names))


def _together(model: SpeechModelSpec, adapter: Adapter) -> str:
    first = ", ".join(f"{each.name} (BLAKE3 {each.blake3[:12]})" for each in model.adapters)
    return (
        f"adapter {adapter.folder} is added to {first}, as two active adapters of peft are; if it is to take "
        "the place of that one, set has_lora_adapter to false in config.json and move its files away"
    )


def base_tensor(checkpoint: Checkpoint, adapter: Adapter, name: str, read: Read) -> Tensor:
    """The tensor of the base model that an adapter means.

    Modules have other prefixes in memory than tensors have on disk: the longest common end decides, between
    equal ones the rest of the name, and then which part of the model it is of: one that is left out may have
    layers of the same names.

    Raises:
        CheckpointError: there is none, or more than one.
    """
    parts = name.split(".")
    for start in range(len(parts) - 1):
        end = ".".join(parts[start:])
        found = [each for each in checkpoint.tensors if f".{each}".endswith(f".{end}")]
        if found:
            ahead = set(parts[:start])
            shared = {each: len(ahead & set(each.split("."))) for each in found}
            best = [each for each in found if shared[each] == max(shared.values())]
            part = read.decoder if any(each.startswith(OF_TEXT) for each in ahead) else read.whole
            best = [each for each in best if checkpoint.tensors[each].name in part] or best
            if len(best) == 1 and not any(part.isdigit() for part in parts[:start]):
                return checkpoint.tensors[best[0]]
            break
    raise CheckpointError(
        f"adapter {adapter.folder}: it changes {name}, which no tensor of {checkpoint.folder} is, or more "
        "than one; give the base model that it was trained on"
    )


def _changed(adapter: Adapter, name: str, tensor: Tensor) -> Weight:
    """The whole tensor with what the adapter puts in its place or adds to it."""
    place = f"adapter {adapter.folder}: {name}"
    found: Weight = tensor
    if new := adapter.replaced.get(name):
        if new.shape != tensor.shape:
            resized = (
                "; embeddings that were resized are not taken" if "embed" in name or "head" in name else ""
            )
            raise CheckpointError(
                f"{place} is {list(new.shape)}, the base model has {list(tensor.shape)}{resized}"
            )
        found = Derived(f"{tensor.name}{ADAPTED}", tensor.shape, (new,), lambda values: values)
    if pair := adapter.pairs.get(name):
        if pair.shape != tensor.shape:
            raise CheckpointError(
                f"{place} adds a matrix {list(pair.shape)}, the base model has {list(tensor.shape)}; "
                "give the base model that it was trained on"
            )
        sources = found, pair.down, pair.up
        found = Derived(f"{tensor.name}{ADAPTED}", tensor.shape, sources, partial(_sum, pair, place))
    return found


def _sum(pair: Pair, place: str, weight: Floats, down: Floats, up: Floats) -> Floats:
    with np.errstate(over="ignore", invalid="ignore"):
        product = np.float32(pair.scale) * (up @ down)
        whole: Floats = weight + (product.T if pair.of_table else product)
    if not np.isfinite(whole).all():
        raise CheckpointError(f"{place}: the sum with the base model is not finite; save the adapter again")
    return whole


def _read_by(part: object) -> set[str]:
    """The tensors of files that a part of a model is read from, by their names on disk."""
    found = set()
    for weight in tensors_of(part):
        found |= {_base(weight)} if isinstance(weight, Tensor) else _read_by(weight.sources)
    return found


def _base(tensor: Tensor) -> str:
    """The name on disk of a tensor, or of the one that it is rows of."""
    return tensor.name.partition("[")[0]


def _replaced(weight: Weight, whole: Whole, checkpoint: Checkpoint) -> Weight:
    """A weight of a model, read from the changed tensors."""
    if isinstance(weight, Derived):
        sources = tuple(_replaced(source, whole, checkpoint) for source in weight.sources)
        return weight if sources == weight.sources else replace(weight, sources=sources)
    name = _base(weight)
    if name not in whole:
        return weight
    base = next(tensor for tensor in checkpoint.tensors.values() if tensor.name == name)
    if weight == base:
        return whole[name]
    start = (weight.offset - base.offset) // (base.size_bytes // base.shape[0])
    rows = slice(start, start + weight.shape[0])
    return Derived(f"{weight.name}{ADAPTED}", weight.shape, (whole[name],), lambda values: values[rows])


def _refuse_tied(model: SpeechModelSpec, adapter: Adapter, whole: Whole) -> None:
    """peft changes one use of a shared tensor while it trains, and both when it merges."""
    head = _read_by(model.decoder.head)
    table = _read_by(model.decoder.embedding)
    if shared := head & table & whole.keys():
        raise CheckpointError(
            f"adapter {adapter.folder}: it changes {few(sorted(shared))}, which is embedding and head at "
            "once: what is meant is not told; merge it with peft (merge_and_unload)"
        )
