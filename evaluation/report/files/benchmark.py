"""What `bench` leaves: latency for every length of audio, number of beams and profile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .fields import Fields
from .records import Source, mapping

FIGURES = ("request_ms", "prefill_ms", "decode_ms", "step_ms", "rtf", "tokens_per_second")
FRONT_END = ("audio", "mel", "encoder")  # the stages before the decoder


@dataclass(frozen=True)
class Spread:
    """Median, 10th and 90th percentile over the counted runs."""

    median: float
    p10: float
    p90: float


@dataclass(frozen=True)
class BenchmarkCase:
    """One combination; `skipped` tells why it was not run."""

    audio_seconds: float
    beams: int
    profile: str
    runs: int
    figures: Mapping[str, Spread | None] = field(default_factory=dict)
    front_end_ms: float | None = None
    kept_ratio: float | None = None
    kv_bytes: float | None = None
    skipped: str = ""

    def median(self, figure: str) -> float | None:
        """Of a figure, if it was measured."""
        found = self.figures.get(figure)
        return None if found is None else found.median


@dataclass(frozen=True)
class BenchmarkFile:
    """One file."""

    source: Source
    cases: tuple[BenchmarkCase, ...]


def read_benchmark(fields: Fields, name: str) -> BenchmarkFile:
    """The file `name`.

    Raises:
        FieldError: a field is missing or of another kind.
    """
    return BenchmarkFile(_source(fields, name), tuple(map(_case, fields.each("results"))))


def _case(fields: Fields) -> BenchmarkCase:
    figures = fields.maybe(fields.inner, "figures") or Fields({})
    stages = fields.maybe(fields.inner, "stages_ms") or Fields({})
    front_end = [found.median for name in FRONT_END if (found := _spread(stages, name))]
    return BenchmarkCase(
        fields.number("audio_seconds"),
        int(fields.number("beams")),
        fields.text("profile"),
        int(fields.number("runs")),
        {name: _spread(figures, name) for name in FIGURES},
        sum(front_end) if front_end else None,
        fields.maybe(fields.number, "kept_ratio"),
        fields.maybe(fields.number, "kv_bytes"),
        fields.maybe(fields.text, "skipped") or "",
    )


def _spread(fields: Fields, name: str) -> Spread | None:
    found = fields.maybe(fields.inner, name)
    return None if found is None else Spread(*(found.number(part) for part in ("median", "p10", "p90")))


def _source(fields: Fields, name: str) -> Source:
    artifact, protocol = fields.inner("artifact"), fields.inner("protocol")
    words = (
        *(artifact.text("folder"), "--profile", ",".join(protocol.texts("profiles"))),
        *("--beams", _listed(protocol.numbers("beams"))),
        *("--audio-seconds", _listed(protocol.numbers("audio_seconds"))),
        *("--new-tokens", f"{protocol.number('new_tokens'):g}", "--runs", f"{protocol.number('runs'):g}"),
        *("--warmup", f"{protocol.number('warmup'):g}", "-o", name),
    )
    settings = {"artifact": artifact.content, **protocol.content}
    return Source(name, "bench", ("bench", *words), settings, mapping(fields, "environment"))


def _listed(numbers: tuple[float, ...]) -> str:
    return ",".join(f"{number:g}" for number in numbers)
