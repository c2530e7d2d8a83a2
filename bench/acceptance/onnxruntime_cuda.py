"""Stages `onnxruntime-cuda-parity` and `onnxruntime-cuda-latency`: ONNX Runtime's CUDA provider."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .artifacts import BuildError, load
from .latency import latency
from .parity import parity
from .records import Check, NotHereError
from .stages import Context, Finding

TARGET, PROVIDER = "onnxruntime-cuda", "CUDAExecutionProvider"
PRECISIONS = "bf16", "fp16"
SAMPLE_RATE, TOKENS = 16000, 70  # more tokens than the first pool has rows for


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
            yield _no_fallback(context, artifact, precision)
            yield _captured(context, artifact, precision)
        except (BuildError, FastAdaSPError) as error:
            yield Check(f"build and load, {precision}", False, None, fault=str(error))


def _no_fallback(context: Context, artifact: Path, precision: str) -> Check:
    """No node of any graph runs on the CPU: what is loaded at once, and the prefill of every profile."""
    from fastadasp.profiles.errors import EngineError

    name = f"every node is on the device, {precision}"
    try:
        model, ran_on = load(artifact, TARGET, context.device, strict=True)
        with model:
            for profile in model.profiles:
                model.generate(np.zeros(SAMPLE_RATE, np.float32), profile=profile, max_new_tokens=1)
    except EngineError as error:
        return Check(name, False, None, fault=str(error))
    return Check(name, True, ran_on)


def _captured(context: Context, artifact: Path, precision: str) -> Check:
    """Captured decode steps give the tokens of others, to one request after the other."""
    noise = np.random.default_rng(0).standard_normal(2 * SAMPLE_RATE, np.float32) / 10
    answers, tokens = [], {"min_new_tokens": TOKENS, "max_new_tokens": TOKENS}
    for captures in (False, True):
        model, ran_on = load(artifact, TARGET, context.device, cuda_graph=captures)
        with model:
            found = [model.generate(noise, num_beams=beams, **tokens) for beams in (1, 5, 1)]
        answers.append([[each.tokens for each in answer.hypotheses] for answer in found])
    passed = answers[0] == answers[1]
    fault = None if passed else "captured steps give other tokens"
    return Check(f"captured steps, {precision}", passed, ran_on, fault=fault)


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
