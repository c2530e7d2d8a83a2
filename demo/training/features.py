"""Encoder output of many clips, cached on disk: the encoder is frozen, so it reads each clip once."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastadasp.export.file import write_file

from .clips import LONGEST, SHORTEST, Clip, Draw, Speech, compose
from .processes import two_processes
from .tasks import Facts

BINS = 80
CHUNK = 100  # clips that one process encodes at a time


class Features:
    """Rows and facts of cached clips."""

    def __init__(self, folder: Path, *names: str) -> None:
        self._rows: list[npt.NDArray[np.float16]] = []
        self.facts: list[Facts] = []
        for path in (path for name in names for path in sorted(folder.glob(f"{name}-*.json"))):
            rows = np.load(path.with_suffix(".npy"), mmap_mode="r")
            at = 0
            for entry in json.loads(path.read_text("utf-8")):
                self._rows.append(rows[at : at + entry["rows"]])
                at += entry["rows"]
                self.facts.append(Facts(tuple(entry["words"]), entry["topic"], entry["room"], entry["style"]))

    def __len__(self) -> int:
        return len(self._rows)

    def length(self, clip: int) -> int:
        """Audio rows of a clip."""
        return len(self._rows[clip])

    def rows(self, clip: int) -> npt.NDArray[np.float32]:
        """(audio rows, encoder width)."""
        return self._rows[clip].astype(np.float32)


def cache(
    folder: Path,
    name: str,
    count: int,
    seed: int,
    *,
    held_out: bool = False,
    shortest: float = SHORTEST,
    longest: float = LONGEST,
) -> None:
    """Compose and encode `count` clips in chunks on two processes; chunks that are there are kept."""
    work = partial(_chunk, folder, name, seed, held_out, (shortest, longest))
    missing = [i for i in range(-(-count // CHUNK)) if not (folder / f"{name}-{i:04d}.json").is_file()]
    with two_processes() as pool:
        for done, _ in enumerate(pool.map(work, missing), 1):
            if done % 20 == 0:
                print(f"{name}: {done} of {len(missing)} chunks encoded", flush=True)


def _chunk(
    folder: Path, name: str, seed: int, held_out: bool, seconds: tuple[float, float], chunk: int
) -> None:
    import torch

    from fastadasp.runtime.audio.log_mel import log_mel_windows

    from .model import LOG_MEL, encode

    torch.set_num_threads(1)
    encoder, speech = _encoder(), _speech(folder)
    draw = np.random.default_rng((seed, chunk))
    rows, entries = [], []
    chosen = speech.voices(held_out)
    for _ in range(CHUNK):
        clip = compose(speech, chosen[int(draw.integers(len(chosen)))], draw, seconds[1], seconds[0])
        window = next(log_mel_windows(clip.samples, LOG_MEL))
        mel = window.mel if held_out else _altered(window.mel, draw)
        with torch.inference_mode():
            found = encode(encoder, torch.from_numpy(mel), window.encoder_rows).half().numpy()
        rows.append(found)
        entries.append(_entry(clip, len(found)))
    np.save(folder / f"{name}-{chunk:04d}.npy", np.concatenate(rows))
    write_file(folder / f"{name}-{chunk:04d}.json", json.dumps(entries).encode())


@lru_cache(maxsize=1)
def _encoder() -> Any:
    """Whisper's, a torch module that is loaded once in this process."""
    from .model import audio_encoder, new_model

    return audio_encoder(new_model(0)).eval()


@lru_cache(maxsize=1)
def _speech(folder: Path) -> Speech:
    """The recordings, opened once in this process."""
    return Speech(folder)


def _entry(clip: Clip, rows: int) -> dict[str, Any]:
    return {**asdict(clip.facts), "voice": clip.voice, "rows": rows}


def _altered(mel: npt.NDArray[np.float32], draw: Draw) -> npt.NDArray[np.float32]:
    """Another vocal tract (mel bins stretched), and some bins and some moments wiped out."""
    at = np.clip(np.arange(BINS) * draw.uniform(0.92, 1.1), 0, BINS - 1)
    low = at.astype(int)
    share = (at - low).astype(np.float32)[:, None]
    mel = mel[low] * (1 - share) + mel[np.minimum(low + 1, BINS - 1)] * share
    for _ in range(int(draw.integers(0, 3))):
        start = int(draw.integers(0, BINS - 8))
        mel[start : start + int(draw.integers(1, 8))] = mel.mean()
    for _ in range(int(draw.integers(0, 3))):
        start = int(draw.integers(0, mel.shape[1]))
        mel[:, start : start + int(draw.integers(1, 8))] = mel.mean()
    return mel
