"""Compose the demo clips from the English voice prompts of Asterisk, with a fixed seed.

    python demo/make_clips.py            # or with the folder of the unpacked Debian package

Each clip is a line of a plan that is drawn before anything is heard (digits, a number, a date). Its words are
single recordings, trimmed, brought to one level and joined with short random pauses over faint noise. All
drawn clips are kept, whatever a model makes of them.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import soundfile

from asterisk_words import RATE, Array, fetch, load_words, splice
from training.vocabulary import ASR, DAYS, MONTHS, SCALES, UNITS, below_hundred

SEED = 0
PLAN = {"digits": 4, "numbers": 3, "dates": 3}  # clips of each kind


def sentence(kind: str, draw: np.random.Generator) -> list[str]:
    """The words of one clip: 4 to 6 digits, a number from 101 to 9999, or a weekday with a date."""
    if kind == "digits":
        return [UNITS[i] for i in draw.integers(0, 10, int(draw.integers(4, 7)))]
    if kind == "numbers":
        scale = SCALES[int(draw.integers(2))]
        return [UNITS[int(draw.integers(1, 10))], scale, *below_hundred(int(draw.integers(1, 100)))]
    day, month = DAYS[int(draw.integers(7))], MONTHS[int(draw.integers(12))]
    return [day, month, *below_hundred(int(draw.integers(1, 31)))]


def compose(words: dict[str, Array], output: Path) -> None:
    """Draw the clips of the plan and write them with their transcripts."""
    draw, lines = np.random.default_rng(SEED), ""
    output.mkdir(parents=True, exist_ok=True)
    for name, kind in [(f"{kind}-{i:02d}.flac", kind) for kind, n in PLAN.items() for i in range(1, n + 1)]:
        text = sentence(kind, draw)
        soundfile.write(output / name, splice([words[word] for word in text], draw), RATE, subtype="PCM_16")
        line = {"audio": name, "text": " ".join(text), "task": "asr", "prompt": ASR}
        lines += json.dumps(line) + "\n"
    (output / "transcripts.jsonl").write_text(lines, encoding="utf-8")


def main() -> None:
    """Write the clips and transcripts.jsonl."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    here = Path(__file__).parent
    parser.add_argument("sounds", type=Path, nargs="?", help="folder with the unpacked Debian package")
    parser.add_argument("-o", "--output", type=Path, default=here / "clips")
    options = parser.parse_args()
    compose(load_words(options.sounds or fetch(here.parent / "build/asterisk")), options.output)


if __name__ == "__main__":
    main()
