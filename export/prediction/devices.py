"""What devices can do, by their makers, and what our graphs reach of it: each number with its source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ...profiles.errors import RequestError
from .roofline import Efficiency

GIB = 2**30
TERA = 1e12
CPU = "cpu"
MEMORY_SHARE = 0.9
MEMORY_SHARE_SOURCE = "assumed: the rest is for activations and the allocator"


@dataclass(frozen=True)
class Device:
    """A GPU."""

    title: str
    memory_bytes: float
    bytes_a_second: float
    flops_a_second: Mapping[str, float]  # dense, by the number format; int8: of integers, which no graph uses
    source: str


def _peaks(fp32: float, fp16: float, bf16: float | None, int8: float) -> Mapping[str, float]:
    found = {"fp32": fp32, "fp16": fp16, "bf16": bf16, "int8": int8}
    return {name: TERA * value for name, value in found.items() if value is not None}


DEVICES: Mapping[str, Device] = {
    "a100": Device(
        "NVIDIA A100 80 GB SXM",
        80 * GIB,
        2.039 * TERA,
        _peaks(19.5, 312, 312, 624),
        "NVIDIA A100 data sheet",
    ),
    "h100": Device(
        "NVIDIA H100 80 GB SXM", 80 * GIB, 3.35 * TERA, _peaks(67, 989, 989, 1979), "NVIDIA H100 data sheet"
    ),
    "l40s": Device(
        "NVIDIA L40S", 48 * GIB, 0.864 * TERA, _peaks(91.6, 362, 362, 733), "NVIDIA L40S data sheet"
    ),
    "l4": Device("NVIDIA L4", 24 * GIB, 0.300 * TERA, _peaks(30.3, 121, 121, 242), "NVIDIA L4 data sheet"),
    "t4": Device("NVIDIA T4", 16 * GIB, 0.320 * TERA, _peaks(8.1, 65, None, 130), "NVIDIA T4 data sheet"),
}
"""By the name that `--device` takes. fp32 is without TF32."""

PREFERRED = ("bf16", "fp16")
"""The number format of a GPU, the first that it has."""


@dataclass(frozen=True)
class Sourced:
    """A number of `Efficiency`, and where it comes from."""

    value: float
    source: str


EfficiencyTable = Mapping[str, Sourced]
"""By the fields of `Efficiency`."""

UNITS = {
    "compute": "of the FLOPs a second",
    "memory": "of the bytes a second",
    "pass_ms": "ms a pass",
    "layer_ms": "ms a layer",
    "reduction_ms": "ms a reduction",
    "beam_ms": "ms a further beam",
}
"""By the fields of `Efficiency`."""

GPU_EFFICIENCY: EfficiencyTable = {
    "compute": Sourced(
        0.6, "derived: an H100 reaches 0.80 in one product of 8192 rows; 0.75 of that is assumed for the rest"
    ),
    "memory": Sourced(0.8, "derived: an H100 copies at 0.90 of its bandwidth; 0.9 of that is assumed"),
    "pass_ms": Sourced(0.5, "assumed: inputs, candidates and the search on the host"),
    "layer_ms": Sourced(0.06, "assumed: 12 kernels of 5 us"),
    "reduction_ms": Sourced(0.1, "assumed: 20 kernels of 5 us"),
    "beam_ms": Sourced(0.1, "assumed: the search on the host"),
}
FITTED = "measured: fitted to two small models, fp32, one thread (bench/plan_cpu.py)"
CPU_EFFICIENCY: EfficiencyTable = {
    "compute": Sourced(0.73, FITTED),
    "memory": Sourced(0.95, FITTED),
    "pass_ms": Sourced(0.0, FITTED),
    "layer_ms": Sourced(0.07, FITTED),
    "reduction_ms": Sourced(0.18, FITTED),
    "beam_ms": Sourced(0.12, FITTED),
}


def efficiency_of(table: EfficiencyTable) -> Efficiency:
    """The numbers of a table."""
    return Efficiency(**{name: number.value for name, number in table.items()})


def check_devices(names: Iterable[str]) -> None:
    """Refuse names that stand in no table.

    Raises:
        RequestError: with all of them, and the known ones.
    """
    if unknown := [name for name in names if name != CPU and name not in DEVICES]:
        known = ", ".join((*DEVICES, CPU))
        raise RequestError(f"device {', '.join(map(repr, unknown))} is unknown; choose {known}")


def precision_of(name: str, asked: str | None) -> str:
    """The number format that a device computes in.

    Raises:
        RequestError: it does not have the one that was asked for.
    """
    if name == CPU:
        if asked not in (None, "fp32"):
            raise RequestError(
                f"precision {asked} on device {CPU}: ONNX Runtime computes in fp32 there; leave it out"
            )
        return "fp32"
    peaks = DEVICES[name].flops_a_second
    precision = asked or next(kind for kind in PREFERRED if kind in peaks)
    if precision not in peaks:
        has = " or ".join(kind for kind in ("fp16", "fp32") if kind in peaks)
        raise RequestError(
            f"precision {precision} on device {name}: the {DEVICES[name].title} has none; choose {has}"
        )
    return precision
