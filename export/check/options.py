"""What a check is asked for, checked once; quick to import, so that a command line has defaults."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from ...profiles.errors import RequestError
from ...runtime.backends import BACKENDS

DEMO_CLIPS = ("dates-01", "digits-01", "numbers-01")


@dataclass(frozen=True)
class CheckOptions:
    """What a check is asked for. Raises RequestError for backends that are unknown."""

    profiles: tuple[str, ...] = ()  # all of the artifact if empty
    clips: tuple[Path, ...] = ()
    backends: tuple[str, ...] = ("onnxruntime",)
    checkpoint: Path | None = None  # the weights in the artifact if None
    save: Path | None = None  # folder for inputs and reference outputs
    device: str | None = None  # of the backends that have a choice; their default if None

    def __post_init__(self) -> None:
        if unknown := [repr(name) for name in self.backends if name not in BACKENDS]:
            raise RequestError(f"backend {', '.join(unknown)} is unknown; known: {', '.join(BACKENDS)}")
        if self.device is not None and not any(map(has_devices, self.backends)):
            raise RequestError(
                f"device {self.device}: {', '.join(self.backends)} has no choice of devices; leave it out"
            )


def has_devices(backend: str) -> bool:
    """Whether a backend has an option that says where it runs."""
    return "device" in {field.name for field in fields(BACKENDS[backend].options)}


def demo_clips() -> tuple[Path, ...]:
    """Clips of the repository's demo, where the package runs from a clone of it."""
    folder = Path(__file__).parents[2] / "demo" / "clips"
    clips = tuple(folder / f"{name}.flac" for name in DEMO_CLIPS)
    return clips if all(clip.is_file() for clip in clips) else ()
