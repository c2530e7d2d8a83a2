"""The weight formats of a comparison: an artifact each, under which the same clips are answered in turn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ....evaluation.answering import Answered, Progress, Run, answer_in_turn
from ....evaluation.answers.answers import ClipAnswers
from ....evaluation.answers.peak_memory import peak_memory
from ....evaluation.answers.workers import Job
from ....evaluation.clips.clip import Clip, ClipSet
from ....evaluation.options import EvalOptions
from ....evaluation.results.comparison import FormatRecord
from ....profiles.methods import FULL
from ....profiles.profile import Profile
from ....runtime.artifact.manifest import Manifest
from ..trials import ARTIFACT, build_beside_full
from .grid import Row
from .options import NONE

GROUP = 15  # profiles that are answered together, beside `full`: each holds a session open


@dataclass(frozen=True)
class Format:
    """The artifact of one format."""

    quantized: str | None  # what the weights are in; None: float32
    artifact: Path
    manifest: Manifest

    @property
    def record(self) -> FormatRecord:
        """As a result file has it."""
        return FormatRecord(self.quantized, self.manifest.digest, weight_bytes(self.manifest))

    def peak_memory(self, profile: str, clip: Clip, options: EvalOptions) -> int | None:
        """Bytes that one request takes, as `evaluation/answers/peak_memory.py` measures it."""
        job = Job(self.artifact, self.manifest.digest, (profile,), options.search, options.runtime)
        return peak_memory(job, clip)


def build_formats(
    checkpoint: Path,
    profiles: Sequence[Profile],
    quantize: Sequence[str],
    lora: Path | None,
    work: Path,
    progress: Progress,
) -> tuple[Format, ...]:
    """Build `full` and the profiles in every format, with an adapter folded in if there is one.

    Raises:
        CheckpointError, ProfileError, OutputError: as `build`.
    """
    found = []
    for name in quantize:
        quantized = None if name == NONE else name
        artifact = work / (ARTIFACT if quantized is None else f"{ARTIFACT}-{quantized}")
        manifest = build_beside_full(checkpoint, profiles, artifact, progress, quantized, lora)
        found.append(Format(quantized, artifact, manifest))
    return tuple(found)


def weight_bytes(manifest: Manifest) -> int:
    """Of all files that weights lie in."""
    tables = (table for each in manifest.weights.values() for table in (each.encoder, each.decoder))
    return sum(manifest.files[name].size for name in {it.file for table in tables for it in table.values()})


def answer_formats(
    formats: Sequence[Format],
    profiles: Sequence[str],
    clips: ClipSet,
    options: EvalOptions,
    work: Path,
    progress: Progress,
) -> tuple[Answered, ...]:
    """The answers of each format under `full` and the profiles.

    Some profiles are answered at a time; each of these groups has a journal of its own in each format.
    """
    groups = [profiles[i : i + GROUP] for i in range(0, len(profiles), GROUP)] or [()]
    found: list[tuple[Answered, ...]] = []
    for i, group in enumerate(groups):

        def tick(step: str, done: int, total: int, before: int = i) -> None:
            progress(step, before * total + done, len(groups) * total)

        settings = replace(options, profiles=(FULL, *group))
        runs = [
            Run(each.artifact, clips, settings, work / f"{each.quantized or NONE}-{i + 1}.journal.jsonl")
            for each in formats
        ]
        found.append(answer_in_turn(runs, tick))
    return tuple(_joined(parts) for parts in zip(*found, strict=True))


Peaks = Mapping[tuple[str | None, str], int | None]
"""Format and profile -> bytes."""


def peak_memories(
    formats: Sequence[Format],
    rows: Iterable[Row],
    clip: Clip | None,
    options: EvalOptions,
    progress: Progress,
) -> Peaks:
    """The memory of `full` and of the first profile of each cell in its format.

    Nothing of one format alone, which is compared with none, or without a clip.
    """
    if len(formats) == 1 or clip is None:
        return {}
    by_format = {each.quantized: each for each in formats}
    first = [(row.quantized, cell.profiles[0].name) for row in rows for cell in row.cells if cell.profiles]
    peaks = {}
    for quantized, profile in ((formats[0].quantized, FULL), *first):
        progress(f"measure memory ({', '.join(filter(None, (profile, quantized)))})", 0, 1)
        peaks[quantized, profile] = by_format[quantized].peak_memory(profile, clip, options)
    return peaks


def _joined(groups: Sequence[Answered]) -> Answered:
    """One format under the profiles of all groups."""
    clips = zip(*(group.answers for group in groups), strict=True)
    answers = tuple(_merged(parts) for parts in clips)
    return replace(groups[0], answers=answers, timed=all(group.timed for group in groups))


def _merged(parts: Sequence[ClipAnswers]) -> ClipAnswers:
    """One clip under all profiles. What several groups have is that of the first."""
    merged = parts[0]
    for part in parts[1:]:
        merged = replace(
            merged,
            answers={**part.answers, **merged.answers},
            failures={**part.failures, **merged.failures},
            costs={**part.costs, **merged.costs},
        )
    return merged


def all_failures(formats: Sequence[Format], answered: Sequence[Answered]) -> Iterator[ClipAnswers]:
    """Of each clip what kept it from being answered, in any format; profiles are named with the format."""
    for parts in zip(*(each.answers for each in answered), strict=True):
        named = {
            ", ".join(filter(None, (profile, each.quantized))): reason
            for each, part in zip(formats, parts, strict=True)
            for profile, reason in part.failures.items()
        }
        yield ClipAnswers(parts[0].clip_id, failures=named)
