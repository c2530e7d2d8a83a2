"""Stages `tensorrt-rtx` and `tensorrt`: engines built for this GPU, compared with torch, then timed."""

from __future__ import annotations

from collections.abc import Iterator

from .artifacts import BuildError
from .latency import latency
from .models import MODELS
from .parity import mark_verified, parity
from .records import Check, NotHereError
from .stages import Context, Finding

BACKEND = "tensorrt"
PRECISIONS = "bf16", "fp16"
UNSUPPORTED = "not supported by this TensorRT"  # what the product says of a GPU that it has no kernels for
OF_LATENCY = MODELS[:1]  # a build of a 7B engine takes longer than the whole acceptance


def run_rtx(context: Context) -> Iterator[Finding]:
    """TensorRT-RTX."""
    yield from _run(context, "tensorrt-rtx")


def run_full(context: Context) -> Iterator[Finding]:
    """TensorRT."""
    yield from _run(context, "tensorrt")


def _run(context: Context, engine: str) -> Iterator[Finding]:
    from fastadasp.export.options import PRODUCTS
    from fastadasp.profiles.errors import FastAdaSPError
    from fastadasp.runtime.tensorrt.sessions import open_platform

    try:
        gpu = open_platform(PRODUCTS[engine]).device
    except FastAdaSPError as error:
        raise NotHereError(str(error)) from None
    built_for = "--engine", engine, "--sm", str(gpu.sm)
    agreed = True
    for precision in PRECISIONS:
        artifact, same = context.artifacts / f"{engine}-{precision}", True
        try:
            for check in parity(context, artifact, BACKEND, precision, *built_for):
                same = same and check.passed and check.ran_on is not None
                yield check
        except (BuildError, FastAdaSPError) as error:
            if UNSUPPORTED in str(error):
                raise NotHereError(str(error)) from None
            same = False
            yield Check(f"build and load, {precision}", False, None, fault=str(error))
        if same:
            mark_verified(artifact, gpu.name)
        agreed = agreed and same
    if agreed:
        yield from latency(context, BACKEND, *built_for, "--precision", PRECISIONS[0], models=OF_LATENCY)
