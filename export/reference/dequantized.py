"""The numbers that stored matrices stand for, one by one from their definition: quantised or changed ones.

Names of parts end with their form: `NAME.int8.values`, or `NAME.int4.BLOCK.values`, `signed` where
values have a sign; those of a table that stays in 16 bits end with its type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from ..checkpoint.derived import ADAPTED

Torch = Any  # a torch.Tensor
Parts = Mapping[str, Torch]  # by what they are: values or signed, scales, zero_points

PART = re.compile(r"(?P<name>.+)\.(?P<form>int8|int4)(?:\.(?P<block>\d+))?\.(?P<part>[a-z_]+)")
STORED = re.compile(r"(?P<name>.+)\.(?:BF16|F16)")
NO_INPUTS: Mapping[str, int] = MappingProxyType({})
MIDDLE_OF_UINT8 = 128
IN_BLOCKS = 3  # axes of values in blocks
LOW_BITS, SIGN_BIT = 15, 8
MIDDLE = 8  # the zero point of blocks that have none


def dequantized(tensors: Mapping[str, Torch], inputs: Mapping[str, int] = NO_INPUTS) -> dict[str, Torch]:
    """Tensors by the names of a checkpoint: quantised ones as float32, changed ones as they were changed.

    Args:
        tensors: by the names that files of an artifact have.
        inputs: of matrices whose last block is filled up, by the name of their values; others come with what
            fills it.
    """
    widths = {matrix_of(values): width for values, width in inputs.items()}
    whole: dict[str, Torch] = {}
    parts: dict[tuple[str, str, str], dict[str, Torch]] = {}
    for name, tensor in tensors.items():
        if found := PART.fullmatch(name):
            key = found["name"], found["form"], found["block"] or ""
            parts.setdefault(key, {})[found["part"]] = tensor
        else:
            stored = STORED.fullmatch(name)
            whole[stored["name"] if stored else name] = tensor
    for (name, form, _), each in parts.items():
        whole[name] = FORMS[form](each)[:, : widths.get(name)]
    changed = {name: tensor for name, tensor in whole.items() if name.endswith(ADAPTED)}
    return whole | {name.removesuffix(ADAPTED): tensor for name, tensor in changed.items()}


def matrix_of(part: str) -> str:
    """The name of the matrix that this is a part of; any other name as it is."""
    found = PART.fullmatch(part)
    return found["name"] if found else part


def kept_tables(tensors: Mapping[str, Torch]) -> list[Torch]:
    """Embeddings beside whose rows the same numbers are stored in fewer bits, for the head."""
    in_fewer_bits = {found["name"] for name in tensors if (found := PART.fullmatch(name))}
    stored = ((STORED.fullmatch(name), name, tensor) for name, tensor in tensors.items())
    return [tensor for found, name, tensor in stored if (found["name"] if found else name) in in_fewer_bits]


def _int8(parts: Parts) -> Torch:
    """scale of the output * value: (out, in); in blocks, scale of the block * (value - 128)."""
    if parts["values"].dim() == IN_BLOCKS:
        return ((parts["values"].float() - MIDDLE_OF_UINT8) * parts["scales"].float()[..., None]).flatten(1)
    return parts["values"].float().T * parts["scales"].float()[:, None]


def _int4(parts: Parts) -> Torch:
    """scale of the block * (value - zero point of the block): (out, blocks * block)."""
    outputs, blocks = parts["scales"].shape
    values = _signed(parts["signed"]) if "signed" in parts else _from_zero_points(parts, blocks)
    return (values.reshape(outputs, blocks, -1) * parts["scales"].float()[..., None]).flatten(1)


def _signed(packed: Torch) -> Torch:
    """Numbers from -8 to 7 in two's complement."""
    nibbles = _nibbles(packed).float()
    return nibbles - 2 * SIGN_BIT * (nibbles >= SIGN_BIT)


def _from_zero_points(parts: Parts, blocks: int) -> Torch:
    """Values less the zero points of their blocks: (out, blocks, block)."""
    values = _nibbles(parts["values"]).float()
    if "zero_points" not in parts:
        return values - MIDDLE
    return values - _nibbles(parts["zero_points"])[:, :blocks].float()[..., None]


def _nibbles(packed: Torch) -> Torch:
    """The 4-bit numbers of bytes along the last axis, the lower bits first."""
    import torch

    return torch.stack([packed & LOW_BITS, packed >> 4], -1).flatten(-2)


FORMS: Mapping[str, Callable[[Parts], Torch]] = {"int8": _int8, "int4": _int4}
