"""Make clips for `build --quantize int4 --calibration`: voices of the training, which nothing is measured on.

    python demo/calibration_clips.py -o build/calibration

writes FLAC files of 2 to 12 s and `clips.jsonl` with one question to each. All is drawn from one seed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import soundfile

from evaluation_sets import as_line
from training.clips import Speech, compose
from training.tasks import questions
from training.voices import RATE, Voice, is_held_out, record

SEED = 21
CLIPS, EVERY, LONGEST = 32, 24, 12.0


def is_chosen(voice: Voice, number: int) -> bool:
    """Every so many voices of espeak, none that is held out."""
    return number % EVERY == 1 and not is_held_out(number) and voice.style is not None


def write(output: Path, count: int) -> None:
    """Write all clips."""
    output.mkdir(parents=True, exist_ok=True)
    if not (output / "speech.json").is_file():
        record(output, chosen=is_chosen)
    speech, draw, lines = Speech(output), np.random.default_rng(SEED), []
    for number in range(count):
        clip = compose(speech, number % len(speech.styles), draw, LONGEST)
        audio = f"{number:03d}.flac"
        soundfile.write(output / audio, clip.samples, RATE, subtype="PCM_16")
        asked = list(questions(clip.facts, draw))
        lines.append(json.dumps({"audio": audio, **as_line(asked[number % len(asked)])}, ensure_ascii=False))
    (output / "clips.jsonl").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    print(f"{output / 'clips.jsonl'}: {count} clips")


def main() -> None:
    """Write the clips."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    build = Path(__file__).parent.parent / "build"
    parser.add_argument("-o", "--output", type=Path, default=build / "calibration")
    parser.add_argument("--clips", type=int, default=CLIPS)
    options = parser.parse_args()
    write(options.output, options.clips)


if __name__ == "__main__":
    main()
