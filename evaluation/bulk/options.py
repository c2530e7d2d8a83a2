"""What a bulk transcription is asked for, checked once; quick to import, for a command line's defaults."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...profiles.errors import RequestError
from ...profiles.faults import count_faults, shown, text_fault
from ...runtime.backend_options import MOST_THREADS, CpuOptions
from ...runtime.choice.target import Auto
from ...runtime.decoding.options import NOTHING_GIVEN, SearchOptions
from ...runtime.runtime_options import RuntimeOptions
from ...runtime.segments.options import SegmentOptions

DEFAULT_RUNTIME = RuntimeOptions()
MOST_DEFAULT_WORKERS = 8  # each holds its own packed copy of the decoder's weights
_LEAST, _MOST = {"workers": 0}, {"workers": MOST_THREADS}


@dataclass(frozen=True)
class TranscribeOptions:
    """How clips are answered. Raises RequestError with every fault."""

    profile: str | Auto | None = None  # of the artifact, or chosen for each clip; its first one if None
    system: str | None = None  # text for that place of the model's template
    search: SearchOptions = NOTHING_GIVEN  # what is left out is as the artifact has it
    runtime: RuntimeOptions = (
        DEFAULT_RUNTIME  # without threads, each worker has one; `max_batch` is that of each
    )
    segmenting: SegmentOptions | None = None  # cuts clips that are longer than a segment; None: none is cut
    workers: int = (
        0  # processes, each with the artifact loaded once; 0: one a core, up to 8, or one for a GPU
    )

    @property
    def num_workers(self) -> int:
        """Processes to start."""
        if self.workers:
            return self.workers
        from ..answers.workers import usable_cores

        on_cpu = isinstance(self.runtime.options, CpuOptions)
        return min(usable_cores(), MOST_DEFAULT_WORKERS) if on_cpu else 1

    def __post_init__(self) -> None:
        if faults := list(_faults(self)):
            raise RequestError("; ".join(faults))


def _faults(options: TranscribeOptions) -> Iterator[str]:
    yield from count_faults(options, _LEAST, _MOST)
    texts = {"profile": options.profile, "system": options.system}
    for name, text in texts.items():
        if text is not None and not isinstance(text, Auto):
            yield from text_fault(name, text)
    for name, kind in (("search", SearchOptions), ("runtime", RuntimeOptions)):
        if not isinstance(found := getattr(options, name), kind):
            yield f"{name} is {shown(found)}: give {kind.__name__}"
    if not isinstance(found := options.segmenting, SegmentOptions | None):
        yield f"segmenting is {shown(found)}: give SegmentOptions, or None"
