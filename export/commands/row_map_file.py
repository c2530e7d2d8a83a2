"""The map of the rows of an answer as a result file, beside the waveform of its clip."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...profiles.errors import RequestError
from .output import write_result

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ...runtime import GenerationResult, SpeechLM

LEVELS = 800  # stretches of a waveform: more than a page has pixels for


def check_row_maps(model: SpeechLM) -> None:
    """Refuse an artifact that does not tell where rows come from; RequestError."""
    if not model.manifest.decoder.row_maps:
        raise RequestError(
            f"artifact {model.artifact.folder} does not say which seconds its rows stand for: build it with "
            "--row-maps, or with --word-heads, which brings them"
        )


def write_row_map(
    path: Path,
    model: SpeechLM,
    clip: str,
    samples: npt.NDArray[np.float32],
    result: GenerationResult,
    threads: int,
) -> None:
    """Write the file of one answer about samples (n,), which so many threads have found; 0: one per core.

    Raises:
        OutputError: the place cannot be written.
    """
    from ...evaluation.results.row_map import RowMapResult
    from ...runtime.alignment.row_map import prompt_rows
    from ...runtime.environment import environment

    assert result.row_map is not None, "the artifact was checked"
    seconds, front_end = result.audio_seconds, model.manifest.front_end
    found = RowMapResult(
        artifact=model.artifact.identity(),
        clip=Path(clip).name,
        profile=result.profile,
        text=result.text,
        audio_seconds=seconds,
        levels=levels_of(samples),
        boundaries=prompt_rows(front_end, 0, result.audio_rows, 0, seconds).boundaries,
        layers=result.row_map,
        environment=environment(threads),
    )
    write_result(path, found)


def levels_of(samples: npt.NDArray[np.float32], count: int = LEVELS) -> tuple[float, ...]:
    """The loudest sample of each of up to `count` stretches of samples (n,), from 0 to 1."""
    import numpy as np

    parts: list[Any] = np.array_split(np.abs(samples), min(count, len(samples)))
    return tuple(round(min(float(part.max()), 1.0), 4) for part in parts)
