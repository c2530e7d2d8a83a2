"""The Triton kernels as cubins and PTX, compiled with no GPU.

Run as a program (`python -m fastadasp.plugins.compile FOLDER 80`), because a process that imported Triton for
its interpreter cannot compile.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib import import_module
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from .end_with_parent import end_with_parent

TYPES = ("fp32", "fp16", "bf16")
HEAD_BLOCKS = (64, 128)

ARGUMENTS = {
    **dict.fromkeys(("query", "key", "hidden", "merged", "copied"), "*T"),
    **dict.fromkeys(("lse", "partial", "mass", "similarity", "score", "weight"), "*fp32"),
    **dict.fromkeys(("stays", "starts"), "*i32"),
    **dict.fromkeys(("scale", "sign"), "fp32"),
    **dict.fromkeys(("BLOCK_D", "BLOCK"), "constexpr"),
}
"""Type of each argument; those that are not named are int32. `T` is one of TYPES."""

UNALIGNED = ("score",)
"""Pointers that may be in the middle of a tensor, of which this is a slice. TensorRT aligns every tensor and
workspace, and native/ every part of it, to 256 bytes.
"""


@dataclass(frozen=True)
class KernelSource:
    """Where a Triton kernel is, its arguments in the order in which native/ passes them, its BLOCK."""

    module: str
    arguments: str
    block: int = 1


KERNELS = {
    "row_log_sum_exp": KernelSource(
        "causal_attention", "query key lse rows heads group head_dim scale BLOCK_D BLOCK", 64
    ),
    "column_mass": KernelSource(
        "causal_attention", "query key lse partial rows heads group head_dim scale BLOCK_D BLOCK", 64
    ),
    "sum_heads": KernelSource("causal_attention", "partial mass rows heads BLOCK", 256),
    "edge_similarity": KernelSource(
        "merge_tokens", "key similarity rows start length kv_heads head_dim BLOCK_D"
    ),
    "choose_rows": KernelSource("merge_tokens", "score stays rows first count removed sign BLOCK", 256),
    "row_starts": KernelSource("merge_tokens", "stays starts rows kept BLOCK", 1024),
    "merge_rows": KernelSource("merge_tokens", "hidden weight starts merged width BLOCK", 512),
    "copy_rows": KernelSource("evict_tokens", "hidden starts copied width BLOCK", 512),
}

SMALL_BLOCK, SMALL_BLOCK_WARPS = 32, 16
"""Of the attention kernels in fp32: they multiply outside the tensor cores, and 64 rows would spill."""

WARPS = 4


@dataclass(frozen=True)
class CompiledKernel:
    """One kernel for one compute capability. `file` holds the image; PTX has no registers yet."""

    name: str
    symbol: str
    type: str
    head_block: int
    block: int
    sm: int
    is_ptx: bool
    warps: int
    shared_bytes: int
    registers: int
    spill_bytes: int
    file: str


def compile_kernels(folder: Path, sms: tuple[int, ...]) -> list[CompiledKernel]:
    """Write every variant into `folder`: a cubin for each of `sms`, PTX for the newest of them.

    One process per core, because a compilation keeps one busy; the order of the result does not depend on it.
    """
    jobs = [(folder, *variant, sm, sm == max(sms)) for sm in sorted(sms) for variant in _variants()]
    spawn = get_context("spawn")  # a fork server would be the parent, with which they end at once
    with ProcessPoolExecutor(mp_context=spawn, initializer=end_with_parent, initargs=(os.getpid(),)) as pool:
        return list(chain.from_iterable(pool.map(_write, *zip(*jobs, strict=True))))


def _write(
    folder: Path, name: str, type_name: str, head_block: int, sm: int, with_ptx: bool
) -> list[CompiledKernel]:
    """One variant: its cubin, and its PTX if asked."""
    compiled = _compile(name, type_name, head_block, sm)
    kinds = (False, True) if with_ptx else (False,)
    return [_store(compiled, folder, name, type_name, head_block, sm, is_ptx=is_ptx) for is_ptx in kinds]


def _variants() -> Iterator[tuple[str, str, int]]:
    """(kernel, element type or "", BLOCK_D or 0)."""
    for name, source in KERNELS.items():
        arguments = source.arguments.split()
        typed = any(ARGUMENTS.get(argument) == "*T" for argument in arguments)
        for type_name in TYPES if typed else ("",):
            for head_block in HEAD_BLOCKS if "BLOCK_D" in arguments else (0,):
                yield name, type_name, head_block


def block_and_warps(source: KernelSource, type_name: str) -> tuple[int, int]:
    """BLOCK and the warps of a program."""
    if source.module == "causal_attention" and type_name == "fp32":
        return SMALL_BLOCK, SMALL_BLOCK_WARPS
    return source.block, WARPS


def _compile(name: str, type_name: str, head_block: int, sm: int) -> Any:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    source = KERNELS[name]
    function = getattr(import_module(f".{source.module}.kernel", __package__), name)
    names = source.arguments.split()
    assert function.arg_names == names, f"{name} takes {function.arg_names}, native/ passes {names}"
    signature = {argument: ARGUMENTS.get(argument, "i32").replace("T", type_name) for argument in names}
    block, warps = block_and_warps(source, type_name)
    values = {"BLOCK_D": head_block, "BLOCK": block}
    constants = {(i,): values[argument] for i, argument in enumerate(names) if argument in values}
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, argument in enumerate(names)
        if "*" in signature[argument] and argument not in UNALIGNED
    }
    ast = ASTSource(fn=function, signature=signature, constexprs=constants, attrs=aligned)
    compiled = triton.compile(ast, target=GPUTarget("cuda", sm, 32), options={"num_warps": warps})
    scratch = compiled.metadata.global_scratch_size + compiled.metadata.profile_scratch_size
    assert not scratch, f"{name} wants {scratch} bytes of scratch memory, native/ passes none"
    return compiled


def _store(
    compiled: Any, folder: Path, name: str, type_name: str, head_block: int, sm: int, *, is_ptx: bool
) -> CompiledKernel:
    kind = "ptx" if is_ptx else "cubin"
    file = folder / f"{name}-{type_name}-{head_block}-{sm}.{kind}"
    image = compiled.asm[kind]
    file.write_bytes(image.encode() + b"\0" if is_ptx else image)
    registers, spills = (0, 0) if is_ptx else _usage(file)
    data = compiled.metadata
    return CompiledKernel(
        name,
        data.name,
        type_name,
        head_block,
        block_and_warps(KERNELS[name], type_name)[0],
        sm,
        is_ptx,
        data.num_warps,
        data.shared,
        registers,
        spills,
        file.name,
    )


def _usage(cubin: Path) -> tuple[int, int]:
    """Registers of a thread, and the bytes that it spills to its stack."""
    import triton

    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    text = subprocess.run(
        [tool, "--dump-resource-usage", cubin], check=True, capture_output=True, text=True
    ).stdout
    fields = dict(
        word.split(":", 1) for word in text.split() if word.split(":", 1)[0] in _USAGE and ":" in word
    )
    return int(fields["REG"]), int(fields["STACK"]) + int(fields["LOCAL"])


_USAGE = ("REG", "STACK", "LOCAL")


def main() -> None:
    """`compile.py FOLDER SM…`: kernels and `kernels.json` in FOLDER."""
    end_with_parent(os.getppid())
    folder, *sms = sys.argv[1:]
    found = compile_kernels(Path(folder), tuple(map(int, sms)))
    Path(folder, "kernels.json").write_text(json.dumps([asdict(kernel) for kernel in found]), "utf-8")


if __name__ == "__main__":
    main()
