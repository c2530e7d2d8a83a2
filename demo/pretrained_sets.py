"""Make the clips that the second model is measured on: human voices, and synthetic ones it has never heard.

    python demo/pretrained_sets.py -o build/pretrained/sets

writes a folder of FLAC files a set, and beside it `SET.jsonl`, a clip list of transcripts:

    human          whole prompts of Asterisk (one voice, 8 kHz)           1 to 6 s
    human-read     pocketsphinx's test data: a book, and playing cards    1 to 10 s
    human-15, human-30, human-120        prompts joined, with pauses
    synthetic      sentences and voices that training left out            1 to 9 s
    synthetic-15, synthetic-30, synthetic-120    sentences of one voice joined, of several at 120 s

All is drawn from one seed before a model hears it. The human recordings are in Debian packages and for
evaluation alone. Synthetic clips need `make train-pretrained` to have recorded its test sentences.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from asterisk_words import PACKAGE, fetch
from fastadasp.runtime.audio.read import load_audio
from pretrained.language_model import PROMPT
from pretrained.speech import utterances
from pretrained.text import normalised
from training.clips import acoustics, silence
from training.voices import RATE, trim

Array = npt.NDArray[np.float32]
Draw = np.random.Generator
Said = tuple[Array, str]  # samples at 16 kHz, transcript

SEED = 23
TRANSCRIPTS = "asterisk-core-sounds-en"
READ = "pocketsphinx-testdata"
SHORTEST, LONGEST, FEWEST = 1.0, 6.0, 3  # seconds and words of a prompt
JOINED = {"15": (15.0, 40), "30": (29.5, 40), "120": (118.0, 10)}  # name -> seconds at most, clips
PAUSES = (0.15, 0.6)  # seconds between what is joined


def prompts(sounds: Path, texts: Path) -> list[Said]:
    """All prompts of three words or more without digits and letters to spell, of 1 to 6 s."""
    file = next(texts.rglob("core-sounds-en.txt.gz"))
    voice = next(path.parent for path in sorted(sounds.rglob("all-circuits-busy-now.wav")))
    found = []
    for line in gzip.decompress(file.read_bytes()).decode("utf-8", errors="replace").splitlines():
        name, _, text = line.strip().partition(":")
        path, words = voice / f"{name}.wav", normalised(text).split()
        spelled = any(len(word) == 1 and word not in "ai" for word in words)
        if line.startswith(";") or re.search(r"[\d\[]", text) or spelled or len(words) < FEWEST:
            continue
        if "/" in name or not path.is_file():
            continue
        samples = load_audio(path, RATE).samples
        if SHORTEST * RATE <= len(samples) <= LONGEST * RATE:
            found.append((samples, " ".join(words)))
    return found


def read_aloud(folder: Path) -> list[Said]:
    """The transcribed clips of pocketsphinx."""
    found = []
    for file in sorted(folder.rglob("*transcription")):
        for line in file.read_text("utf-8").splitlines():
            match = re.fullmatch(r"<s>(.*)</s>\s*\((.+)\)", line.strip())
            if match and (path := file.parent / f"{match[2]}.wav").is_file():
                found.append((load_audio(path, RATE).samples, normalised(match[1])))
    return found


def joined(clips: list[Said], seconds: float, count: int, draw: Draw) -> Iterator[Said]:
    """Clips of as many random ones as fit into a time, one after another."""
    for _ in range(count):
        pieces, texts, filled = [silence(0.1)], [], 0.1
        for i in draw.permutation(len(clips)).tolist():
            samples, text = clips[i]
            pause = draw.uniform(*PAUSES)
            if filled + len(samples) / RATE + pause > seconds:
                break
            pieces += [samples, silence(pause)]
            filled += len(samples) / RATE + pause
            texts.append(text)
        yield np.concatenate(pieces), " ".join(texts)


def held_out(work: Path) -> list[list[Said]]:
    """The sentences of the test, by voice."""
    folder = work / "speech"
    if not (folder / "test-0000.json").is_file():
        raise SystemExit(f"{folder} holds no recordings of the test; run make train-pretrained first")
    recorded = np.load(folder / "test-0000.npy", mmap_mode="r")
    return [
        [
            (recorded[e["at"] : e["at"] + e["n"]].astype(np.float32) / 32768, normalised(e["text"]))
            for e in block
        ]
        for block in utterances(folder, "test-0000")
    ]


def in_rooms(clips: Iterable[Said], draw: Draw) -> Iterator[Said]:
    """The same in random quiet rooms."""
    return ((acoustics(samples, "quiet", draw), text) for samples, text in clips)


def sets(work: Path, packages: dict[str, Path]) -> Iterator[tuple[str, Iterable[Said]]]:
    """Name and clips of every set."""
    draw = np.random.default_rng(SEED)
    human = prompts(packages[PACKAGE], packages[TRANSCRIPTS])
    yield "human", human
    yield "human-read", read_aloud(packages[READ])
    trimmed = [(part, text) for samples, text in human if (part := trim(samples)) is not None]
    for name, (seconds, count) in JOINED.items():
        yield f"human-{name}", joined(trimmed, seconds, count, draw)
    voices = held_out(work)
    everything = [said for voice in voices for said in voice]
    yield "synthetic", in_rooms(everything, draw)
    for name, (seconds, count) in JOINED.items():
        chosen = [voices[i % len(voices)] if seconds <= 30 else everything for i in range(count)]
        long = (next(joined(clips, seconds, 1, draw)) for clips in chosen)
        yield f"synthetic-{name}", in_rooms(long, draw)


def write(output: Path, name: str, clips: Iterable[Said]) -> None:
    """The audio of a set, and its clip list."""
    (output / name).mkdir(parents=True, exist_ok=True)
    lines = []
    for number, (samples, text) in enumerate(clips):
        audio = f"{name}/{number:03d}.flac"
        soundfile.write(output / audio, samples, RATE, subtype="PCM_16")
        lines.append(json.dumps({"id": audio, "audio": audio, "task": "asr", "prompt": PROMPT, "text": text}))
    (output / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    print(f"{output / name}.jsonl: {len(lines)} clips")


def main() -> None:
    """Fetch the recordings and write the sets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    work = Path(__file__).parent.parent / "build/pretrained"
    parser.add_argument("--work", type=Path, default=work, help="that of make train-pretrained")
    parser.add_argument("-o", "--output", type=Path, help="by default sets/ in the work folder")
    options = parser.parse_args()
    names = (PACKAGE, TRANSCRIPTS, READ)
    packages = {name: fetch(options.work / "debian" / name, name) for name in names}
    for name, clips in sets(options.work, packages):
        write(options.output or options.work / "sets", name, clips)


if __name__ == "__main__":
    main()
