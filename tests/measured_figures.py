"""Figures of the tiny model's profiles, and artifacts that hold figures."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from fastadasp.runtime.artifact.artifact import open_artifact
from fastadasp.runtime.artifact.manifest import FILE_NAME
from fastadasp.runtime.choice.figures import (
    Accuracy,
    Figures,
    Latency,
    Loss,
    Machine,
    MeasuredClips,
    Timed,
)


def _times(*milliseconds: float) -> tuple[Timed, ...]:
    return tuple(Timed(1, seconds, each) for seconds, each in zip((1.0, 2.0, 4.0), milliseconds, strict=True))


FIGURES = Figures(
    Accuracy(
        "asr", "WER", "full", MeasuredClips("c", "0" * 64, 40, 40, 4.0), 30, {"own-30": Loss(0.1, 0, 0.2, 1)}
    ),
    Latency(Machine("another", None, 2), 8, {"full": _times(50, 100, 200), "own-30": _times(60, 70, 80)}),
)


def with_figures(artifact: Path, folder: Path, figures: Figures) -> Path:
    """A copy that holds them."""
    shutil.copytree(artifact, folder)
    take_in(folder, figures)
    return folder


def take_in(artifact: Path, figures: Figures) -> None:
    """Put them into a manifest."""
    manifest = replace(open_artifact(artifact).manifest, figures=figures)
    (artifact / FILE_NAME).write_text(manifest.to_json(), "utf-8")
