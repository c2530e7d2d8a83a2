"""Single words of a human voice, from the English prompts of Asterisk, and clips spliced from them.

The recordings are for evaluation alone: nothing is trained on them. They are in a Debian package, which a
machine with `apt-get` and `dpkg-deb` fetches and unpacks without being root; elsewhere fetch version 1.6.1-1
from https://packages.debian.org and unpack it yourself.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastadasp.runtime.audio.read import load_audio
from training.vocabulary import DAYS, MONTHS, TEENS, TENS, UNITS
from training.voices import RATE, trim

Array = npt.NDArray[np.float32]

PACKAGE = "asterisk-core-sounds-en-wav"
OPENING = 1600  # samples before the first word
PAUSE = (400, 3000)  # samples after every word
NOISE = 3e-4  # standard deviation


def fetch(folder: Path, package: str = PACKAGE) -> Path:
    """Download a Debian package and unpack it into `folder`, unless it is there."""
    if not folder.is_dir():
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            raise SystemExit(f"apt-get or dpkg-deb is missing: unpack {package} into {folder}")
        scratch = folder.with_name(f".{folder.name}")
        scratch.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "--quiet", package], cwd=scratch, check=True)
        archive = next(scratch.glob("*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(archive), str(scratch)], check=True)
        archive.unlink()
        scratch.rename(folder)
    return folder


def load_words(folder: Path) -> dict[str, Array]:
    """Every recording of the vocabulary, at one level and without the silence around it."""
    digits = next((path for path in sorted(folder.rglob("digits")) if (path / "hundred.wav").is_file()), None)
    if digits is None:
        raise SystemExit(f"{folder} holds no digits/hundred.wav; unpack {PACKAGE} there")
    files = {word: digits / f"{name}.wav" for word, name in _recordings().items()}
    words = {word: trim(load_audio(file, RATE).samples) for word, file in files.items()}
    if silent := [word for word, samples in words.items() if samples is None]:
        raise SystemExit(f"{digits}: silent: {', '.join(silent)}; unpack {PACKAGE} again")
    return {word: samples for word, samples in words.items() if samples is not None}


def splice(words: list[Array], draw: np.random.Generator) -> Array:
    """The words one after another, each followed by a pause, over noise."""
    pieces = [np.zeros(OPENING, np.float32)]
    for word in words:
        pieces += [word, np.zeros(int(draw.integers(*PAUSE)), np.float32)]
    samples = np.concatenate(pieces)
    return samples + draw.normal(0.0, NOISE, len(samples)).astype(np.float32)


def _recordings() -> dict[str, str]:
    """Word -> the name of its recording in the package's `digits` folder."""
    names = {word: str(value) for value, word in enumerate(UNITS + TEENS)}
    names |= {word: str(value) for value, word in zip(range(20, 100, 10), TENS, strict=True)}
    names |= {"hundred": "hundred", "thousand": "thousand"}
    names |= {word: f"day-{value}" for value, word in enumerate(DAYS)}
    return names | {word: f"mon-{value}" for value, word in enumerate(MONTHS)}
