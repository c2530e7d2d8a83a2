"""Make the clips that the demo model is measured on: a human voice, and synthetic voices it has never heard.

    python demo/evaluation_sets.py -o build/evaluation

writes a folder of FLAC files a set, and beside it `SET.jsonl` with the questions to its clips:

    human         a human voice, 2 to 10 s       asr, translate to French and German, qa
    human-30      the same voice, 28 to 30 s     asr
    synthetic     held-out voices, 3 to 10 s     asr, translate, classify, caption, qa
    synthetic-30  held-out voices, 20 to 30 s    asr, qa
    human-15      as human-30, 13 to 15 s        asr

All is drawn from one seed before a model hears it. espeak-ng speaks the synthetic voices.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from asterisk_words import Array, fetch, load_words, splice
from training.clips import Draw, Speech, compose, hidden_answer
from training.tasks import ASKED_BY, Facts, Question, questions
from training.vocabulary import ASR, DESCRIBE, QUESTION, STYLE, TO_FRENCH, TO_GERMAN, WORDS
from training.voices import RATE, is_for_tests, record

SEED = 20
LANGUAGES = {TO_FRENCH: "fr", TO_GERMAN: "de"}
Set = Iterator[tuple[Array, Facts]]


@dataclass(frozen=True)
class Plan:
    """What is asked in one set."""

    prompts: tuple[str, ...]  # first tokens of the questions
    clips: int


PLANS = {
    "human": Plan((ASR, TO_FRENCH, TO_GERMAN, QUESTION), 100),
    "human-30": Plan((ASR,), 24),
    "synthetic": Plan((ASR, TO_FRENCH, TO_GERMAN, STYLE, DESCRIBE, QUESTION), 100),
    "synthetic-30": Plan((ASR, QUESTION), 40),
    "human-15": Plan((ASR,), 40),  # the last one: the draws of a set depend on its place
}


def human(words: dict[str, Array], count: int, draw: Draw) -> Set:
    """Clips of 2 to 10 s: random words, in every second one a weekday and a month at random places."""
    made = 0
    while made < count:
        said = (
            hidden_answer(draw)
            if made % 2
            else [WORDS[i] for i in draw.integers(0, 49, draw.integers(3, 12))]
        )
        samples = splice([words[word] for word in said], draw)
        if 2 * RATE <= len(samples) <= 10 * RATE:
            made += 1
            yield samples, Facts(tuple(said), "words", "quiet", None)


def human_long(words: dict[str, Array], count: int, draw: Draw, seconds: tuple[int, int] = (28, 30)) -> Set:
    """Clips of so many seconds of random words."""
    for _ in range(count):
        said: list[str] = []
        samples = np.zeros(0, np.float32)
        while len(samples) < seconds[0] * RATE:
            said.append(WORDS[int(draw.integers(len(WORDS)))])
            samples = np.append(samples, splice([words[said[-1]]], draw))
        yield samples[: seconds[1] * RATE], Facts(tuple(said), "words", "quiet", None)


def synthetic(speech: Speech, count: int, draw: Draw, seconds: tuple[float, float]) -> Set:
    """Clips of held-out voices whose style can be told."""
    voices, made = speech.voices(held_out=True), 0
    while made < count:
        clip = compose(speech, voices[int(draw.integers(len(voices)))], draw, longest=seconds[1])
        if clip.facts.style is not None and len(clip.samples) >= seconds[0] * RATE:
            made += 1
            yield clip.samples, clip.facts


def write(output: Path, sounds: Path, seed: int = SEED) -> None:
    """Write all sets."""
    output.mkdir(parents=True, exist_ok=True)
    if not (output / "speech.json").is_file():
        record(output, chosen=is_for_tests)
    words, speech = load_words(sounds), Speech(output)
    draws = {name: np.random.default_rng((seed, i)) for i, name in enumerate(PLANS)}
    sets = {
        "human": human(words, PLANS["human"].clips, draws["human"]),
        "human-30": human_long(words, PLANS["human-30"].clips, draws["human-30"]),
        "synthetic": synthetic(speech, PLANS["synthetic"].clips, draws["synthetic"], (3.0, 10.0)),
        "synthetic-30": synthetic(speech, PLANS["synthetic-30"].clips, draws["synthetic-30"], (20.0, 29.9)),
        "human-15": human_long(words, PLANS["human-15"].clips, draws["human-15"], (13, 15)),
    }
    for name, clips in sets.items():
        lines = [json.dumps(line, ensure_ascii=False) for line in _lines(name, clips, output, draws[name])]
        (output / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines), "utf-8")
        print(f"{output / name}.jsonl: {PLANS[name].clips} clips, {len(lines)} questions")


def _lines(name: str, clips: Set, output: Path, draw: Draw) -> Iterator[dict[str, Any]]:
    """Write the audio of a set; give its lines of the manifest."""
    folder = output / name
    folder.mkdir(exist_ok=True)
    for number, (samples, facts) in enumerate(clips):
        audio = f"{name}/{number:03d}.flac"
        soundfile.write(output / audio, samples, RATE, subtype="PCM_16")
        for asked in questions(facts, draw):
            if asked.prompt.split()[0] in PLANS[name].prompts:
                yield {"id": f"{name}/{number:03d} {asked.prompt}", "audio": audio, **as_line(asked)}


def as_line(asked: Question) -> dict[str, Any]:
    """What a line of a clip list says of a question."""
    first = asked.prompt.split()[0]
    task = ASKED_BY[first]
    content: dict[str, Any] = {"task": task, "prompt": asked.prompt, "text": asked.answer}
    if first in LANGUAGES:
        content["language"] = LANGUAGES[first]
    if task == "classify":
        content["label"] = content.pop("text")
    return content


def main() -> None:
    """Fetch the recordings and write the sets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    build = Path(__file__).parent.parent / "build"
    parser.add_argument("-o", "--output", type=Path, default=build / "evaluation")
    parser.add_argument("--sounds", type=Path, help="folder with the unpacked Debian package")
    options = parser.parse_args()
    write(options.output, options.sounds or fetch(build / "asterisk"))


if __name__ == "__main__":
    main()
