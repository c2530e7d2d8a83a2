"""Recordings of the sentences: a voice of espeak-ng, flite or piper reads twelve, then another one does."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastadasp.export.file import write_file
from training.processes import two_processes
from training.voices import ACCENTS, FEMALE, FLITE, MALE, RATE, flite, piper, run, trim

from .loop import StoppedError

Array = npt.NDArray[np.float32]
Draw = np.random.Generator

BLOCK = 12  # sentences that a voice reads
BLOCKS = 25  # of one file
FLITE_SHARE, PIPER_SHARE = 0.2, 0.12  # of the blocks; espeak-ng reads the others
HELD_OUT = (*MALE[::10], *FEMALE[::10])  # variants of espeak-ng for tests alone
LONGEST = 9 * RATE  # samples of a sentence


def record(
    folder: Path,
    name: str,
    texts: Sequence[str],
    seed: int,
    stop: Callable[[], bool],
    *,
    held_out: bool = False,
) -> None:
    """Write `NAME-0000.npy` and so on (samples, int16), beside each what is said where; files that are there
    are kept.

    Raises:
        StoppedError: `stop` said so.
    """
    folder.mkdir(parents=True, exist_ok=True)
    size = BLOCK * BLOCKS
    parts = [texts[i : i + size] for i in range(0, len(texts), size)]
    missing = [i for i in range(len(parts)) if not (folder / f"{name}-{i:04d}.json").is_file()]
    work = partial(_record_file, folder, name, seed, held_out)
    with two_processes() as pool:
        for done, _ in enumerate(pool.map(work, missing, [parts[i] for i in missing]), 1):
            print(f"{name}: {done} of {len(missing)} files recorded", flush=True)
            if stop():
                raise StoppedError


def utterances(folder: Path, name: str) -> list[list[dict[str, Any]]]:
    """Every block of a recorded file: what is said (`text`), by whom (`voice`), and where (`at`, `n`)."""
    content: list[list[dict[str, Any]]] = json.loads((folder / f"{name}.json").read_text("utf-8"))
    return content


def _record_file(
    folder: Path, name: str, seed: int, held_out: bool, number: int, texts: Sequence[str]
) -> None:
    draw = np.random.default_rng((seed, number))
    pieces: list[npt.NDArray[np.int16]] = []
    blocks, at = [], 0
    for begin in range(0, len(texts), BLOCK):
        entries = []
        voice, say = _voice(draw, held_out)
        for text in texts[begin : begin + BLOCK]:
            samples = trim(say(text))
            if samples is None or len(samples) > LONGEST:
                continue
            pieces.append(np.round(samples * 32767).astype(np.int16))
            entries.append({"text": text, "voice": voice, "at": at, "n": len(samples)})
            at += len(samples)
        blocks.append(entries)
    scratch = folder / f"{name}-{number:04d}.part.npy"
    np.save(scratch, np.concatenate(pieces))
    scratch.replace(folder / f"{name}-{number:04d}.npy")
    write_file(folder / f"{name}-{number:04d}.json", json.dumps(blocks).encode())


def _voice(draw: Draw, held_out: bool) -> tuple[str, Any]:
    """The name of a voice, and the function that gives what it says."""
    kind = 1.0 if held_out else draw.random()
    if kind < FLITE_SHARE:
        name = str(draw.choice(FLITE))
        return f"flite-{name}", flite(name, draw.uniform(0.85, 1.2))
    if kind < FLITE_SHARE + PIPER_SHARE:
        return "piper-joe", piper(draw.uniform(0.85, 1.25), int(draw.integers(2**31)))
    variants = [name for name in (MALE, FEMALE)[int(draw.integers(2))] if (name in HELD_OUT) == held_out]
    voice = f"{draw.choice(ACCENTS)}+{draw.choice(variants)}"
    options = ["-v", voice, "-p", str(draw.integers(25, 75)), "-s", str(draw.integers(135, 195))]
    return f"espeak-{voice}", lambda text: run(["espeak-ng", *options, "--stdout", text])
