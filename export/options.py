"""What a build is asked for; quick to import, so that the command line can show the defaults."""

from __future__ import annotations

from dataclasses import dataclass

from ..profiles.profile import Profile

PRECISIONS = ("fp32", "fp16", "bf16")
ENGINE_PRECISIONS = ("fp16", "bf16")
"""TensorRT has no fused attention for fp32."""
PRODUCTS = {"tensorrt-rtx": "tensorrt_rtx", "tensorrt": "tensorrt"}
"""What builds engines, and its Python module."""
ENGINES = tuple(PRODUCTS)
WEIGHT_MODES = ("link", "copy")


@dataclass(frozen=True)
class EngineOptions:
    """What engines are built for."""

    engine: str = ENGINES[0]
    sm: int = 80  # compute capability, times ten: 80 is the A100
    precision: str = "bf16"
    max_audio_seconds: float = 240.0
    max_beams: int = 8
    max_text_rows: int = 256  # before the audio, and after it
    max_new_tokens: int = 256
    reproducible: bool = False  # the same bytes on every build: one core, real-time scheduling


@dataclass(frozen=True)
class BuildOptions:
    """What a build is asked for."""

    profiles: tuple[Profile, ...]
    weights: str = "link"
    force: bool = False
    engines: EngineOptions | None = None
