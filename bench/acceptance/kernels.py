"""Stage `kernels`: Triton launches them; results beside the references, times beside the ceilings."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from statistics import median
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from fastadasp.plugins.compile import ARGUMENTS, KERNELS, block_and_warps

from .plugin_cases import TYPES, Case, small_cases
from .records import Check, NotHereError
from .stages import Context

Array = NDArray[Any]
COMPARED_ROWS = 131, 333, 501  # of the small cases; each other length is compiled anew
WARM_UP, RUNS = 3, 20
COPY_BYTES, PRODUCT = 1 << 30, 8192
FLUSH_BYTES = 256 << 20  # more than any cache holds: what a kernel reads comes from memory


@dataclass(frozen=True)
class Sizes:
    """Of one timed launch; half of the rows go."""

    rows: int = 6000
    heads: int = 32
    kv_heads: int = 32
    head_dim: int = 128
    width: int = 4096

    @property
    def removed(self) -> int:
        """Rows that go."""
        return self.rows // 2

    @property
    def kept(self) -> int:
        """Rows that stay."""
        return self.rows - self.removed


@dataclass(frozen=True)
class Work:
    """What a kernel must at least do: bytes to and from memory, each tensor once; FLOPs of its products."""

    bytes: int
    flops: int = 0


def run(context: Context) -> Iterator[Check]:
    """Results, then ceilings, then times.

    Raises:
        NotHereError: torch finds no GPU.
    """
    import torch

    if not torch.cuda.is_available():
        raise NotHereError(f"torch {torch.__version__} finds no GPU")
    device = uuid_of(torch.cuda.get_device_properties(0))
    for case in small_cases():
        if next(iter(case.inputs.values())).shape[0] in COMPARED_ROWS:
            yield compared(case, "cuda", device)
    ceilings = measured_ceilings()
    yield Check("ceilings", True, device, ceilings)
    for kind in TYPES:
        for name in KERNELS:
            if kind == TYPES[0] or _is_typed(name):
                yield timed(name, kind, Sizes(), "cuda", device, ceilings)


def uuid_of(properties: Any) -> str:
    """Of a device of torch, as the driver tells it."""
    return str(properties.uuid).removeprefix("GPU-").replace("-", "")


def compared(case: Case, place: str, ran_on: str) -> Check:
    """One case through the functions that launch the kernels; `place` is a device of torch."""
    tensors = {name: to_torch(tensor.content(), place) for name, tensor in case.inputs.items()}
    found = to_numpy(LAUNCHES[case.plugin](tensors, case.span))
    error = case.error(found)
    figures = {"error": error if math.isfinite(error) else None, "tolerance": case.tolerance}
    passed = error <= case.tolerance
    return Check(case.name, passed, ran_on, figures, None if passed else f"error {error:.3g}")


def _mass(tensors: Mapping[str, Any], _: object) -> Any:
    from fastadasp.plugins.causal_attention.launch import attention_mass

    return attention_mass(tensors["query"], tensors["key"])


def _reduced(
    function: str, module: str, names: str, tensors: Mapping[str, Any], span: tuple[int, int, int]
) -> Any:
    launch = import_module(f"fastadasp.plugins.{module}.launch")
    return getattr(launch, function)(*(tensors[name] for name in names.split()), *span)


LAUNCHES: dict[str, Callable[..., Any]] = {
    "AttentionMass": _mass,
    "MergeTokens": partial(_reduced, "merge_tokens", "merge_tokens", "hidden key weight"),
    "MergeEdges": partial(_reduced, "merge_edges", "merge_tokens", "hidden score weight"),
    "EvictTokens": partial(_reduced, "evict_tokens", "evict_tokens", "hidden score"),
}


def to_torch(array: Array, place: str) -> Any:
    """A tensor of the same bits; torch takes no bfloat16 of NumPy."""
    import torch

    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16).to(place)
    return torch.from_numpy(array).to(place)


def to_numpy(tensor: Any) -> Array:
    """An array of the same bits."""
    import torch

    if tensor.dtype == torch.bfloat16:
        bits: Array = tensor.cpu().view(torch.int16).numpy()
        return bits.view(ml_dtypes.bfloat16)
    found: Array = tensor.cpu().numpy()
    return found


def timed(
    name: str, kind: str, sizes: Sizes, place: str, ran_on: str, ceilings: Mapping[str, float] | None = None
) -> Check:
    """Microseconds of one kernel, launched as the library launches it, and the shares of the ceilings."""
    launch = _launch(name, kind, sizes, place)
    microseconds = clock(launch, place)
    work, seconds = work_of(name, kind, sizes), microseconds / 1e6
    figures: dict[str, Any] = {**asdict(sizes), "microseconds": microseconds, **asdict(work)}
    figures |= {"bytes_per_second": work.bytes / seconds, "flops_per_second": work.flops / seconds}
    if ceilings:
        figures["share_of_copy"] = figures["bytes_per_second"] / ceilings["copy_bytes_per_second"]
        figures["share_of_bf16_product"] = figures["flops_per_second"] / ceilings["bf16_flops_per_second"]
    passed = math.isfinite(microseconds) and microseconds > 0
    label = f"time of {name} {kind}" if _is_typed(name) else f"time of {name}"
    return Check(label, passed, ran_on, figures, None if passed else "no time was measured")


def _is_typed(name: str) -> bool:
    return any(ARGUMENTS.get(argument) == "*T" for argument in KERNELS[name].arguments.split())


def _launch(name: str, kind: str, sizes: Sizes, place: str) -> Callable[[], object]:
    """The kernel with its arguments, in the order of `KERNELS`."""
    source = KERNELS[name]
    block, warps = block_and_warps(source, kind)
    values = {**_numbers(sizes), **_tensors(kind, sizes, place), "BLOCK": block}
    arguments = [values[argument] for argument in source.arguments.split()]
    kernel = getattr(import_module(f"fastadasp.plugins.{source.module}.kernel"), name)
    grid = grid_of(name, block, sizes)
    return lambda: kernel[grid](*arguments, num_warps=warps)


def _numbers(sizes: Sizes) -> dict[str, Any]:
    return {
        **asdict(sizes),
        "kept": sizes.kept,
        "removed": sizes.removed,
        "group": sizes.heads // sizes.kv_heads,
        "scale": sizes.head_dim**-0.5,
        "start": 0,
        "length": sizes.rows,
        "first": 1,
        "count": sizes.rows - 1,
        "sign": 1.0,
        "BLOCK_D": 64 if sizes.head_dim <= 64 else 128,
    }


def _tensors(kind: str, sizes: Sizes, place: str) -> dict[str, Any]:
    """Random activations, and what the kernels before it would have left; every other row stays."""
    import torch

    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[kind]
    activation = partial(torch.randn, dtype=dtype, device=place)
    numbers = partial(torch.rand, device=place)
    rows, per_head = sizes.rows, (sizes.heads, sizes.rows)
    stays = (torch.arange(rows, device=place) % 2 == 0).to(torch.int32)
    ends = torch.tensor([rows], device=place)
    return {
        "query": activation(rows, sizes.heads * sizes.head_dim),
        "key": activation(sizes.kv_heads, rows, sizes.head_dim),
        "hidden": activation(rows, sizes.width),
        "merged": activation(sizes.kept, sizes.width),
        "copied": activation(sizes.kept, sizes.width),
        "lse": numbers(per_head) + math.log(rows),
        "partial": numbers(per_head),
        "mass": numbers(rows),
        "similarity": numbers(rows),
        "score": numbers(rows),
        "weight": numbers(rows),
        "stays": stays,
        "starts": torch.cat([stays.nonzero().flatten(), ends]).to(torch.int32),
    }


def grid_of(name: str, block: int, sizes: Sizes) -> tuple[int, ...]:
    """Programs of a launch, as native/ has them."""
    rows, width = math.ceil(sizes.rows / block), math.ceil(sizes.width / block)
    return {
        "row_log_sum_exp": (rows, sizes.heads),
        "column_mass": (rows, sizes.heads),
        "sum_heads": (rows,),
        "edge_similarity": (sizes.rows - 1,),
        "choose_rows": (rows,),
        "row_starts": (1,),
        "merge_rows": (sizes.kept, width),
        "copy_rows": (sizes.kept, width),
    }[name]


def work_of(name: str, kind: str, sizes: Sizes) -> Work:
    """Least bytes and FLOPs; a causal score costs 2 * head_dim FLOPs, and half of the matrix is seen."""
    item = 4 if kind == "fp32" else 2
    heads, rows = sizes.heads * sizes.rows, sizes.rows
    keys = item * sizes.kv_heads * rows * sizes.head_dim
    scores = Work(
        item * heads * sizes.head_dim + keys + 4 * heads, sizes.heads * rows * (rows + 1) * sizes.head_dim
    )
    moved = item * sizes.width
    return {
        "row_log_sum_exp": scores,
        "column_mass": Work(scores.bytes + 4 * heads, scores.flops),
        "sum_heads": Work(4 * heads + 4 * rows, heads),
        "edge_similarity": Work(keys + 4 * rows, 6 * sizes.kv_heads * rows * sizes.head_dim),
        "choose_rows": Work(8 * rows),
        "row_starts": Work(4 * rows + 4 * sizes.kept),
        "merge_rows": Work(moved * (rows + sizes.kept) + 4 * rows, 2 * rows * sizes.width),
        "copy_rows": Work(2 * moved * sizes.kept),
    }[name]


def measured_ceilings() -> dict[str, float]:
    """A copy within the device, read and write counted, and a product of random bf16 matrices."""
    import torch

    source = torch.randn(COPY_BYTES // 4, device="cuda")
    target = torch.empty_like(source)
    copied = clock(lambda: target.copy_(source), "cuda")
    left, right = (torch.randn(PRODUCT, PRODUCT, dtype=torch.bfloat16, device="cuda") for _ in range(2))
    multiplied = clock(lambda: left @ right, "cuda")
    return {
        "copy_bytes_per_second": 2 * COPY_BYTES / copied * 1e6,
        "bf16_flops_per_second": 2 * PRODUCT**3 / multiplied * 1e6,
    }


def clock(launch: Callable[[], object], place: str) -> float:
    """Median microseconds of a launch on a device, its caches emptied before; on the CPU of a single one."""
    import torch

    if place == "cpu":
        begin = time.perf_counter()
        launch()
        return (time.perf_counter() - begin) * 1e6
    flush = torch.empty(FLUSH_BYTES, dtype=torch.int8, device=place)
    times: list[float] = []
    for _ in range(WARM_UP + RUNS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        flush.zero_()
        begin.record()
        launch()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) * 1000)
    return median(times[WARM_UP:])
