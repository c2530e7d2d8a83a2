"""The stages in order of worth: what each needs, how long it takes, and the function that runs it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from .records import Check, Skipped


@dataclass(frozen=True)
class Context:
    """What a stage is given."""

    folder: Path  # for its files; removed at the end
    artifacts: Path  # for those of the demo, which are kept
    checkpoint: Path | None  # of the latency table, instead of random weights
    device: str | None  # the UUID of the GPU that the driver names
    sm: int | None  # its compute capability, times ten
    deadline: float = float("inf")  # of time.monotonic()

    def has(self, seconds: float) -> bool:
        """Whether so much time is left."""
        return time.monotonic() + seconds <= self.deadline


Finding = Check | Skipped
Run = Callable[[Context], Iterator[Finding]]


@dataclass(frozen=True)
class Stage:
    """One stage. Its function is imported when it runs; seconds are those of one H100."""

    about: str
    module: str
    function: str
    packages: tuple[str, ...]  # names of modules
    least_seconds: float  # of its first useful part
    seconds: float  # of the whole
    works_without_device: bool = False  # in part, which is no reason to say that it passed

    def missing(self) -> list[str]:
        """The modules that this machine lacks."""
        return [name for name in self.packages if name not in REPLACEABLE and find_spec(name) is None]

    def run(self, context: Context) -> Iterator[Finding]:
        """What it finds, as it comes.

        Raises:
            NotHereError: this machine or this version cannot run it.
        """
        function: Run = getattr(import_module(f".{self.module}", __package__), self.function)
        return function(context)


RUNTIME = "blake3", "tokenizers", "rich", "click"
EXPORT = "torch", "transformers", "safetensors", "onnx", "ml_dtypes", "jinja2"
KERNELS = "numpy", "torch", "triton", "ml_dtypes"
CHECK = "polygraphy", "soundfile", "soxr"
REPLACEABLE = ("kernel_lens",)
"""The headers of TensorRT may be elsewhere; a build without any says so."""
LIBRARY = "numpy", "triton", "ml_dtypes", "kernel_lens"

STAGES = {
    "kernels": Stage(
        "Triton kernels against the references; their time, beside what the device can do",
        "kernels",
        "run",
        KERNELS,
        30,
        45,
    ),
    "plugins": Stage(
        "plugin library: every plugin through the interface of TensorRT, without TensorRT",
        "plugins",
        "run",
        LIBRARY,
        60,
        100,
        works_without_device=True,
    ),
    "onnxruntime-cuda-parity": Stage(
        "every graph of the demo on ONNX Runtime's CUDA provider against torch",
        "onnxruntime_cuda",
        "run_parity",
        (*RUNTIME, *EXPORT, *CHECK, "onnxruntime"),
        45,
        90,
    ),
    "onnxruntime-cuda-latency": Stage(
        "the paper's latency table on ONNX Runtime's CUDA provider, random weights",
        "onnxruntime_cuda",
        "run_latency",
        (*RUNTIME, *EXPORT, "onnxruntime"),
        60,
        330,
    ),
    "tensorrt-rtx": Stage(
        "engines of TensorRT-RTX for this GPU: the demo against torch, requests that share steps, latency",
        "tensorrt",
        "run_rtx",
        (*RUNTIME, *EXPORT, *CHECK, "triton", "kernel_lens", "tensorrt_rtx", "cuda"),
        30,
        150,
    ),
    "tensorrt": Stage(
        "the same with full TensorRT",
        "tensorrt",
        "run_full",
        (*RUNTIME, *EXPORT, *CHECK, "triton", "kernel_lens", "tensorrt", "cuda"),
        60,
        300,
    ),
}
