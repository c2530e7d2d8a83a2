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
    precision: str | None = None  # the same of what a backend computes in, where that is not in the graphs

    def __post_init__(self) -> None:
        if unknown := [repr(name) for name in self.backends if name not in BACKENDS]:
            raise RequestError(f"backend {', '.join(unknown)} is unknown; known: {', '.join(BACKENDS)}")
        for option, value in self.chosen.items():
            if not any(has_option(backend, option) for backend in self.backends):
                raise RequestError(
                    f"{option} {value}: {', '.join(self.backends)} has no choice of it; leave it out"
                )

    @property
    def chosen(self) -> dict[str, str]:
        """What is given of the options of backends."""
        options = {"device": self.device, "precision": self.precision}
        return {option: value for option, value in options.items() if value is not None}


def has_option(backend: str, option: str) -> bool:
    """Whether a backend has an option of this name."""
    return option in {field.name for field in fields(BACKENDS[backend].options)}


def demo_clips() -> tuple[Path, ...]:
    """Clips of the repository's demo, where the package runs from a clone of it."""
    folder = Path(__file__).resolve().parents[2] / "demo" / "clips"
    clips = tuple(folder / f"{name}.flac" for name in DEMO_CLIPS)
    return clips if all(clip.is_file() for clip in clips) else ()
