"""Clips put together from recordings in random acoustics, and what the lower encoder layers make of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastadasp.export.file import write_file
from fastadasp.runtime.audio.log_mel import log_mel_windows
from training.clips import acoustics, at_speed, silence
from training.processes import two_processes
from training.voices import RATE

from .loop import StoppedError
from .speech import utterances
from .text import normalised

Array = npt.NDArray[np.float32]
Draw = np.random.Generator
Entry = dict[str, Any]

LONGEST = 29.9  # seconds
LONG = (6.0, 29.5)  # seconds of a clip of several sentences
LONG_CHANCES = (0.9, 0.4)  # that a block of twelve sentences gives one such clip, and another one
SPEED = (0.9, 1.12)
NOISY_SHARE = 0.15


@dataclass(frozen=True)
class Clip:
    """Audio and its transcript."""

    samples: Array  # (n,), 16 kHz
    text: str
    voice: str


def cache(
    work: Path,
    name: str,
    whisper: tuple[Path, ...],
    seed: int,
    stop: Callable[[], bool],
    files: int | None = None,
) -> None:
    """Encode what was recorded under a name, file by file, on two processes; files that are there are kept.

    With `files`, only the first so many.

    Raises:
        StoppedError: `stop` said so.
    """
    folder = work / "features"
    folder.mkdir(parents=True, exist_ok=True)
    recorded = [path.stem for path in sorted((work / "speech").glob(f"{name}-*.json"))[:files]]
    missing = [stem for stem in recorded if not (folder / f"{stem}.json").is_file()]
    with two_processes() as pool:
        found = pool.map(partial(_cache_file, work, whisper, seed), missing)
        for done, _ in enumerate(found, 1):
            print(f"{name}: {done} of {len(missing)} files encoded", flush=True)
            if stop():
                raise StoppedError


def compose(blocks: list[list[Entry]], recorded: npt.NDArray[np.int16], draw: Draw) -> Iterator[Clip]:
    """Every sentence by itself, and some clips of several sentences of one voice."""
    for block in blocks:
        for entry in block:
            yield _clip([entry], recorded, draw)
        for chance in LONG_CHANCES:
            if block and draw.random() < chance:
                yield _clip(_several(block, draw), recorded, draw)


def _several(block: list[Entry], draw: Draw) -> list[Entry]:
    """Sentences in a random order, as many as a random length holds."""
    wanted, filled = draw.uniform(*LONG) * RATE, 0.0
    chosen: list[Entry] = []
    for i in draw.permutation(len(block)):
        filled += block[i]["n"] + RATE
        if chosen and filled > wanted:
            break
        chosen.append(block[i])
    return chosen


def _clip(entries: list[Entry], recorded: npt.NDArray[np.int16], draw: Draw) -> Clip:
    pieces: list[Array] = [silence(draw.uniform(0.02, 0.3))]
    for entry in entries:
        spoken = recorded[entry["at"] : entry["at"] + entry["n"]].astype(np.float32) / 32768
        pieces += [spoken, silence(draw.uniform(0.1, 0.7))]
    pieces[-1] = silence(draw.uniform(0.05, 0.4))
    samples = at_speed(np.concatenate(pieces), draw.uniform(*SPEED))
    room = "noisy" if draw.random() < NOISY_SHARE else "quiet"
    heard = acoustics(samples[: round(LONGEST * RATE)], room, draw)
    return Clip(heard, normalised(" ".join(entry["text"] for entry in entries)), entries[0]["voice"])


def _cache_file(work: Path, whisper: tuple[Path, ...], seed: int, name: str) -> None:
    import torch

    from .encoder import LOG_MEL, lower_rows

    torch.set_num_threads(1)
    encoder = _encoder(whisper)
    recorded = np.load(work / "speech" / f"{name}.npy", mmap_mode="r")
    draw = np.random.default_rng((seed, *name.encode()))
    entries, at = [], 0
    target = work / "features" / f"{name}.f16"
    with target.with_suffix(".part").open("wb") as file:
        for clip in compose(utterances(work / "speech", name), recorded, draw):
            window = next(log_mel_windows(clip.samples, LOG_MEL))
            with torch.autocast("cpu", torch.bfloat16):
                rows = lower_rows(encoder, torch.from_numpy(window.mel), window.encoder_rows)
            file.write(rows.half().numpy().tobytes())
            entries.append({"text": clip.text, "voice": clip.voice, "at": at, "rows": len(rows)})
            at += len(rows)
    target.with_suffix(".part").replace(target)
    write_file(target.with_suffix(".json"), json.dumps(entries).encode())


@lru_cache(maxsize=1)
def _encoder(whisper: tuple[Path, ...]) -> Any:
    """A torch module, loaded once in this process."""
    from .encoder import whisper_base

    return whisper_base(*whisper)
