"""Kernels on torch tensors, each launched with the block and the warps that it is compiled with."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from .compile import ARGUMENTS, HEAD_BLOCKS, KERNELS, block_and_warps

TYPE_NAMES = {"torch.float32": "fp32", "torch.float16": "fp16", "torch.bfloat16": "bf16"}


def launch(name: str, grid: Callable[[int], tuple[int, ...]], *arguments: Any) -> None:
    """Run a kernel on a GPU, or on the CPU under Triton's interpreter.

    Args:
        name: one of `KERNELS`.
        grid: programs, by the size of a block.
        arguments: of the kernel, in its order, but for the sizes of blocks.
    """
    source = KERNELS[name]
    names = source.arguments.split()
    values = dict(zip(names, arguments, strict=False))
    kinds = [TYPE_NAMES[str(each.dtype)] for key, each in values.items() if ARGUMENTS.get(key) == "*T"]
    block, warps = block_and_warps(source, kinds[0] if kinds else "")
    sizes = {"BLOCK": block}
    if "head_dim" in values:
        sizes["BLOCK_D"] = next(each for each in HEAD_BLOCKS if values["head_dim"] <= each)
    kernel = getattr(import_module(f".{source.module}.kernel", __package__), name)
    kernel[grid(block)](*arguments, *(sizes[each] for each in names[len(arguments) :]), num_warps=warps)
