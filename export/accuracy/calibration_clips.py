"""The clips that entropies are estimated on, from a JSONL manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...profiles.errors import RequestError


@dataclass(frozen=True)
class Clip:
    """One calibration clip."""

    path: Path
    prompt: str  # text of the request


def read_clips(manifest: Path, prompt: str) -> Iterator[Clip]:
    """Clips of a JSONL file: an object a line, `audio` relative to the file, `prompt` if not the usual one.

    Raises:
        RequestError: a line that is something else.
    """
    for number, line in enumerate(manifest.read_text("utf-8").splitlines(), 1):
        try:
            entry = json.loads(line)
            yield Clip(manifest.parent / entry["audio"], str(entry.get("prompt", prompt)))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise RequestError(
                f'{manifest}, line {number}: give an object such as {{"audio": "one.wav"}}'
            ) from None
