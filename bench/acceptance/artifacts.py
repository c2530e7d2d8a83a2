"""Artifacts of a stage: built by the command line, and loaded with proof that the GPU holds them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .device import NoDeviceError, free_bytes

if TYPE_CHECKING:
    from fastadasp.runtime import SpeechLM

COMMAND = sys.executable, "-P", "-m", "fastadasp.export"
FIRST_GPU = "cuda:0"  # as ONNX Runtime names the one that `find_device` finds
SHARE_ON_DEVICE = 0.4  # of the weights' bytes, at least; graphs share them, and 16 bits may be half of a file


class BuildError(RuntimeError):
    """`build` failed, and what it said."""


def build_artifact(checkpoint: Path, artifact: Path, profiles: Sequence[str], *options: str) -> None:
    """`fastadasp-export build`, in a process of its own, which gives its memory back.

    Raises:
        BuildError: it failed.
    """
    chosen = (word for name in profiles for word in ("--profile", name))
    command = [*COMMAND, "build", str(checkpoint), "-o", str(artifact), "--force", *chosen, *options]
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    print(ran.stdout)
    if ran.returncode:
        said = ran.stdout.strip().splitlines() or ["it said nothing"]
        raise BuildError(f"build ended with {ran.returncode}: {said[-1]}")


def load(artifact: Path, backend: str, gpu: str | None, **options: Any) -> tuple[SpeechLM, str | None]:
    """An artifact on a backend, and the UUID of the GPU if that is shown to hold the weights.

    ONNX Runtime tells where they are. How much memory went says nothing there: what earlier models of the
    process have given back is taken again.

    Raises:
        FastAdaSPError: it does not load.
    """
    from fastadasp.runtime import SpeechLM

    def opened() -> SpeechLM:
        return SpeechLM.load(artifact, backend=backend, verify="never", **options)

    if backend == "onnxruntime-cuda":
        model = opened()
        return model, gpu if model.device == FIRST_GPU else None
    weights = sum(path.stat().st_size for path in (artifact / "weights").iterdir())
    return held(opened, weights, gpu)


def held(
    open_model: Callable[[], SpeechLM], weights: int, gpu: str | None, free: Callable[[], int] = free_bytes
) -> tuple[SpeechLM, str | None]:
    """A model, and the UUID of the GPU if its memory went while the model was opened.

    Nobody else may use the GPU meanwhile.
    """
    try:
        before = free()
        model = open_model()
        taken = before - free()
    except NoDeviceError:
        return open_model(), None
    return model, gpu if taken >= SHARE_ON_DEVICE * weights else None
