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
from training.vocabulary import ASR
from training.voices import sentence

SEED = 0
PLAN = {"digits": 4, "numbers": 3, "dates": 3}  # clips of each kind
FEWEST_DIGITS = 4


def compose(words: dict[str, Array], output: Path) -> None:
    """Draw the clips of the plan and write them with their transcripts."""
    draw, lines = np.random.default_rng(SEED), ""
    output.mkdir(parents=True, exist_ok=True)
    for name, kind in [(f"{kind}-{i:02d}.flac", kind) for kind, n in PLAN.items() for i in range(1, n + 1)]:
        text = sentence(kind, draw, FEWEST_DIGITS)
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
