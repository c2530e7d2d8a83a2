"""What a machine needs for each stage: packages, and how to bring them where there is no network."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from .checkout import ROOT
from .stages import STAGES

DISTRIBUTIONS = {
    "cuda": ("cuda-bindings",),
    "jinja2": ("jinja2",),
    "kernel_lens": ("kernel-lens",),
    "ml_dtypes": ("ml_dtypes",),
    "onnxruntime": ("onnxruntime-gpu",),
    "soundfile": ("soundfile", "cffi", "pycparser"),
    "tensorrt_rtx": ("tensorrt-rtx-cu13", "tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu13-libs"),
}
"""By the module: what to install where it is not named like it, and what that needs itself."""
WITH_TORCH = (
    *("numpy", "torch", "triton", "transformers", "tokenizers", "safetensors", "onnx", "ml_dtypes"),
    *("jinja2", "rich", "click", "cuda"),
)
"""Modules that an image with torch for CUDA has; torch itself is never brought."""
FROM_ELSEWHERE = {"tensorrt": "from NVIDIA's own index: it is not on PyPI"}
FILES = (
    "a copy of the repository, with demo/, tests/ and bench/",
    "g++, for the stage `plugins` and for engines",
    "an NVIDIA driver (libcuda.so.1); no CUDA toolkit",
)
PLATFORMS = "manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"
PYTHON = "3.12"


def lines() -> Iterator[str]:
    """For people."""
    for name, stage in STAGES.items():
        yield f"{name} ({stage.seconds:.0f} s): {stage.about}"
        yield f"    {', '.join(_here(module) for module in stage.packages)}"
    yield "\nand for all:"
    yield from (f"    {text}" for text in FILES)
    wheels = [each for module in _to_bring() for each in _requirements(module)]
    yield f"\nWheels to bring to a machine without network that has torch for CUDA (Python {PYTHON}):"
    platforms = " ".join(f"--platform {name}" for name in PLATFORMS)
    yield f"    pip download --no-deps --only-binary=:all: --python-version {PYTHON} {platforms} -d wheels \\"
    yield f"        {' '.join(wheels)}"
    yield "there:"
    yield "    pip install --no-index --no-deps --target SITE wheels/*.whl && export PYTHONPATH=SITE"
    yield from (f"{module}: {text}" for module, text in FROM_ELSEWHERE.items())


def _here(module: str) -> str:
    """A module's distribution, and its version on this machine."""
    name = DISTRIBUTIONS.get(module, (module,))[0]
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} (not here)"


def _to_bring() -> list[str]:
    wanted = dict.fromkeys(module for stage in STAGES.values() for module in stage.packages)
    return [module for module in wanted if module not in (*WITH_TORCH, *FROM_ELSEWHERE)]


def _requirements(module: str) -> Iterator[str]:
    """Distributions, with the limits that pyproject.toml has; parts of another one have its limits."""
    limits = _limits()
    names = DISTRIBUTIONS.get(module, (module,))
    for name in names:
        own = limits.get(name) or (limits.get(names[0], "") if name.startswith(names[0]) else "")
        yield f"'{name}{own}'"


def _limits() -> dict[str, str]:
    """Distribution -> version specifier."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lists = project["dependencies"], *project["optional-dependencies"].values()
    found = (re.fullmatch(r"([\w.-]+)(?:\[.*\])?(.*)", text) for texts in lists for text in texts)
    return {match[1]: match[2] for match in found if match}
