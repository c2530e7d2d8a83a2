"""Stages `onnxruntime-cuda-parity` and `onnxruntime-cuda-latency`: ONNX Runtime's CUDA provider."""

from __future__ import annotations

from collections.abc import Iterator

from .artifacts import BuildError
from .latency import latency
from .parity import parity
from .records import Check, NotHereError
from .stages import Context, Finding

TARGET, PROVIDER = "onnxruntime-cuda", "CUDAExecutionProvider"
PRECISIONS = "bf16", "fp16"


def run_parity(context: Context) -> Iterator[Finding]:
    """The demo in both precisions.

    Raises:
        NotHereError: this version or this machine has no such thing.
    """
    from fastadasp.profiles.errors import FastAdaSPError

    require_provider()
    for precision in PRECISIONS:
        artifact = context.artifacts / f"{TARGET}-{precision}"
        try:
            yield from parity(context, artifact, TARGET, precision, "--target", TARGET)
        except (BuildError, FastAdaSPError) as error:
            yield Check(f"build and load, {precision}", False, None, fault=str(error))


def run_latency(context: Context) -> Iterator[Finding]:
    """The table in bf16.

    Raises:
        NotHereError: this version or this machine has no such thing.
    """
    require_provider()
    yield from latency(context, TARGET, "--target", TARGET, "--precision", PRECISIONS[0])


def require_provider() -> None:
    """The target of the exporter, the backend of the runtime, and the wheel with the provider.

    Raises:
        NotHereError: one of them is missing.
    """
    import onnxruntime

    from fastadasp.export.targets import TARGETS
    from fastadasp.runtime.backends import BACKENDS

    for what, table in (("target", TARGETS), ("backend", BACKENDS)):
        if TARGET not in table:
            raise NotHereError(f"this version has no {what} {TARGET}")
    if PROVIDER not in onnxruntime.get_available_providers():
        raise NotHereError(f"onnxruntime {onnxruntime.__version__} has no {PROVIDER}: bring onnxruntime-gpu")
