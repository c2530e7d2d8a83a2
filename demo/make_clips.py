"""Compose the demo clips from the English voice prompts of Asterisk, with a fixed seed.

The prompts are in a Debian package; any machine with `dpkg-deb` unpacks it:

    apt-get download asterisk-core-sounds-en-wav      # or fetch 1.6.1-1 from https://packages.debian.org
    dpkg-deb -x asterisk-core-sounds-en-wav_*.deb asterisk
    python demo/make_clips.py asterisk

Each clip is a line of a plan that is drawn before anything is heard (digits, a number, a date). Its words are
single recordings, trimmed, brought to one level and joined with short random pauses over faint noise. All
drawn clips are kept, whatever a model makes of them.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from fastadasp.runtime.audio import load_audio

Array = npt.NDArray[np.float32]

RATE = 16000  # Hz
SEED = 0
PLAN = {"digits": 4, "numbers": 3, "dates": 3}  # clips of each kind

LEVEL = 0.5  # peak of every word
QUIET = 0.01  # a word begins and ends where it exceeds this
LEAD, TRAIL = 300, 600  # samples kept around it
OPENING = 1600  # samples before the first word
PAUSE = (400, 3000)  # samples after every word
NOISE = 3e-4  # standard deviation

UNITS, TEENS, TENS, DAYS, MONTHS = (
    line.split()
    for line in (
        "zero one two three four five six seven eight nine",
        "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen",
        "twenty thirty forty fifty sixty seventy eighty ninety",
        "sunday monday tuesday wednesday thursday friday saturday",
        "january february march april may june july august september october november december",
    )
)


def recordings() -> dict[str, str]:
    """Word -> the name of its recording in the package's `digits` folder."""
    names = {word: str(value) for value, word in enumerate(UNITS + TEENS)}
    names |= {word: str(value) for value, word in zip(range(20, 100, 10), TENS, strict=True)}
    names |= {"hundred": "hundred", "thousand": "thousand"}
    names |= {word: f"day-{value}" for value, word in enumerate(DAYS)}
    return names | {word: f"mon-{value}" for value, word in enumerate(MONTHS)}


def below_hundred(value: int) -> list[str]:
    """The words of 1 to 99."""
    if value < 20:
        return [(UNITS + TEENS)[value]]
    tens, units = divmod(value, 10)
    return [TENS[tens - 2]] + ([UNITS[units]] if units else [])


def sentence(kind: str, draw: np.random.Generator) -> list[str]:
    """The words of one clip: 4 to 6 digits, a number from 101 to 9999, or a weekday with a date."""
    if kind == "digits":
        return [UNITS[i] for i in draw.integers(0, 10, int(draw.integers(4, 7)))]
    if kind == "numbers":
        scale = ("hundred", "thousand")[int(draw.integers(2))]
        return [UNITS[int(draw.integers(1, 10))], scale, *below_hundred(int(draw.integers(1, 100)))]
    day, month = DAYS[int(draw.integers(7))], MONTHS[int(draw.integers(12))]
    return [day, month, *below_hundred(int(draw.integers(1, 31)))]


def load_words(folder: Path) -> dict[str, Array]:
    """Every recording of the vocabulary, at one level and without the silence around it."""
    digits = next((path for path in sorted(folder.rglob("digits")) if (path / "hundred.wav").is_file()), None)
    if digits is None:
        raise SystemExit(f"{folder} holds no digits/hundred.wav; unpack asterisk-core-sounds-en-wav there")
    files = {word: digits / f"{name}.wav" for word, name in recordings().items()}
    return {word: trim(load_audio(file, RATE).samples) for word, file in files.items()}


def trim(samples: Array) -> Array:
    """One word at peak LEVEL, from LEAD samples before its first sound to TRAIL after its last."""
    samples = samples * (LEVEL / np.abs(samples).max())
    loud = np.flatnonzero(np.abs(samples) > QUIET)
    return samples[max(0, loud[0] - LEAD) : loud[-1] + TRAIL]


def splice(words: list[Array], draw: np.random.Generator) -> Array:
    """The words one after another, each followed by a pause, over noise."""
    pieces = [np.zeros(OPENING, np.float32)]
    for word in words:
        pieces += [word, np.zeros(int(draw.integers(*PAUSE)), np.float32)]
    samples = np.concatenate(pieces)
    return samples + draw.normal(0.0, NOISE, len(samples)).astype(np.float32)


def compose(words: dict[str, Array], output: Path) -> None:
    """Draw the clips of the plan and write them with their transcripts."""
    draw, lines = np.random.default_rng(SEED), ""
    output.mkdir(parents=True, exist_ok=True)
    for name, kind in [(f"{kind}-{i:02d}.flac", kind) for kind, n in PLAN.items() for i in range(1, n + 1)]:
        text = sentence(kind, draw)
        soundfile.write(output / name, splice([words[word] for word in text], draw), RATE, subtype="PCM_16")
        lines += json.dumps({"audio": name, "text": " ".join(text), "task": "asr"}) + "\n"
    (output / "transcripts.jsonl").write_text(lines, encoding="utf-8")


def main() -> None:
    """Write the clips and transcripts.jsonl."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sounds", type=Path, help="folder with the unpacked Debian package")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "clips")
    options = parser.parse_args()
    compose(load_words(options.sounds), options.output)


if __name__ == "__main__":
    main()
