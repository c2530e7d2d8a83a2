"""Clips of 2 to 30 s put together from what one voice says, and made to sound like many rooms and lines."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr
from scipy.signal import fftconvolve

from .tasks import Facts
from .vocabulary import DAYS, MONTHS, TOPICS, WORDS
from .voices import RATE, sentence

Array = npt.NDArray[np.float32]
Draw = np.random.Generator

SHORTEST, LONGEST = 2.0, 29.9  # seconds
NEUTRAL_SPEED, ANY_SPEED = (0.95, 1.05), (0.84, 1.2)
NOISY_DB, QUIET_DB = (3.0, 15.0), (28.0, 55.0)  # signal to noise


@dataclass(frozen=True)
class Clip:
    """Audio and all that can be asked about it."""

    samples: Array  # (n,), 16 kHz
    facts: Facts  # without a style where the voice has none, or where its speed was changed too much to tell
    voice: int


class Speech:
    """The recordings of all voices."""

    def __init__(self, folder: Path) -> None:
        self._samples = np.load(folder / "speech.npy", mmap_mode="r")
        content = json.loads((folder / "speech.json").read_text("utf-8"))
        self.styles: list[str | None] = [voice["style"] for voice in content["voices"]]
        self._held_out: list[bool] = [voice["held_out"] for voice in content["voices"]]
        self._words: dict[int, dict[str, tuple[int, int]]] = defaultdict(dict)
        self._sentences: dict[tuple[int, str], list[tuple[tuple[str, ...], tuple[int, int]]]] = defaultdict(
            list
        )
        for entry in content["utterances"]:
            place = (entry["at"], entry["at"] + entry["n"])
            if len(entry["words"]) == 1:
                self._words[entry["voice"]][entry["words"][0]] = place
            else:
                key = entry["voice"], entry["topic"]
                self._sentences[key].append((tuple(entry["words"]), place))

    def voices(self, held_out: bool) -> list[int]:
        """Numbers of the voices for tests, or of those for training, those of flite and piper thrice."""
        chosen = [i for i, apart in enumerate(self._held_out) if apart == held_out]
        return chosen if held_out else chosen + 3 * [i for i in chosen if self.styles[i] is None]

    def word(self, voice: int, word: str) -> Array | None:
        """A word said alone."""
        place = self._words[voice].get(word)
        return None if place is None else self._cut(place)

    def sentence(self, voice: int, topic: str, draw: Draw) -> tuple[tuple[str, ...], Array] | None:
        """A sentence said as one."""
        known = self._sentences.get((voice, topic))
        if not known:
            return None
        words, place = known[int(draw.integers(len(known)))]
        return words, self._cut(place)

    def _cut(self, place: tuple[int, int]) -> Array:
        return self._samples[slice(*place)].astype(np.float32) / 32768


def compose(
    speech: Speech, voice: int, draw: Draw, longest: float = LONGEST, shortest: float = SHORTEST
) -> Clip:
    """Draw a clip of one voice, of about `shortest` to at most `longest` seconds, under random acoustics."""
    wanted = np.exp(draw.uniform(np.log(shortest), np.log(longest)))
    topic = str(draw.choice([*TOPICS, "words"]))
    keep_speed = bool(draw.random() < 0.6)
    low, high = NEUTRAL_SPEED if keep_speed else ANY_SPEED
    speed = draw.uniform(low, high)
    pieces, words = _speak(speech, voice, topic, wanted * speed, draw)
    samples = at_speed(pieces, speed)
    if len(samples) > LONGEST * RATE:  # the last piece was too long
        return compose(speech, voice, draw, longest, shortest)
    room = "noisy" if draw.random() < 0.4 else "quiet"
    style = speech.styles[voice] if keep_speed else None
    return Clip(acoustics(samples, room, draw), Facts(tuple(words), topic, room, style), voice)


def hidden_answer(draw: Draw) -> list[str]:
    """Words among which just one weekday and one month stand at random places."""
    plain = [word for word in WORDS if word not in DAYS and word not in MONTHS]
    words = [plain[i] for i in draw.integers(0, len(plain), int(draw.integers(1, 8)))]
    for answer in (DAYS, MONTHS):
        words.insert(int(draw.integers(len(words) + 1)), answer[int(draw.integers(len(answer)))])
    return words


def _speak(speech: Speech, voice: int, topic: str, seconds: float, draw: Draw) -> tuple[Array, list[str]]:
    """Sentences of a topic with pauses, until `seconds` are filled: the last one ends at or before them."""
    short, long = (0.02, 0.2) if draw.random() < 0.7 else (0.1, 0.8)
    whole = draw.uniform(0.0, 1.0)  # share of the sentences that are said as one
    pieces = [silence(draw.uniform(0.0, 0.3))]
    words: list[str] = []
    filled = len(pieces[0])
    while True:
        said, parts = _sentence(speech, voice, topic, whole, (short, long), draw)
        length = sum(map(len, parts))
        if words and filled + length > seconds * RATE:
            break
        pieces, words, filled = pieces + parts, words + said, filled + length
        if filled > 0.85 * seconds * RATE:
            break
    return np.concatenate([*pieces, silence(draw.uniform(0.02, 0.3))]), words


def _sentence(
    speech: Speech, voice: int, topic: str, whole: float, pauses: tuple[float, float], draw: Draw
) -> tuple[list[str], list[Array]]:
    """One sentence with the pauses after its parts."""
    if draw.random() < whole and (found := speech.sentence(voice, topic, draw)):
        return list(found[0]), [found[1], silence(draw.uniform(*pauses))]
    words = hidden_answer(draw) if topic == "words" and draw.random() < 0.5 else sentence(topic, draw)
    spoken = [(word, samples) for word in words if (samples := speech.word(voice, word)) is not None]
    parts = [part for _, samples in spoken for part in (samples, silence(draw.uniform(*pauses)))]
    return [word for word, _ in spoken], parts


def silence(seconds: float) -> Array:
    """So many seconds of nothing."""
    return np.zeros(round(seconds * RATE), np.float32)


def at_speed(samples: Array, speed: float) -> Array:
    """Played faster or slower, pitch and all."""
    at = np.arange(0, len(samples) - 1, speed, np.float32)
    return np.interp(at, np.arange(len(samples)), samples).astype(np.float32)


def acoustics(samples: Array, room: str, draw: Draw) -> Array:
    """Reverberation, a coloured channel, a telephone line, noise."""
    if draw.random() < 0.35:
        tail = draw.uniform(0.05, 0.4)
        time = np.arange(round(tail * RATE)) / RATE
        response = draw.normal(size=len(time)) * np.exp(-6.9 * time / tail) * draw.uniform(0.02, 0.15)
        response[0] = 1.0
        samples = fftconvolve(samples, response)[: len(samples)]
    if draw.random() < 0.6:
        colour = draw.normal(0.0, 0.25, 9) * np.hanning(9)
        colour[4] = 1.0
        samples = np.convolve(samples, colour, "same")
    samples = samples + _noise(len(samples), _level(samples), room, draw)
    if draw.random() < 0.5:
        samples = soxr.resample(soxr.resample(samples, RATE, RATE // 2), RATE // 2, RATE)
    peak = np.abs(samples).max()
    return (samples * (draw.uniform(0.3, 0.9) / peak)).astype(np.float32)


def _level(samples: Array) -> float:
    """The root mean square of what is loud."""
    loud = samples[np.abs(samples) > 0.02 * np.abs(samples).max()]
    return float(np.sqrt(np.mean(np.square(loud))))


def _noise(size: int, level: float, room: str, draw: Draw) -> Array:
    """White to brownish noise at the signal-to-noise ratio of a room."""
    noise = draw.normal(size=size)
    colour = draw.uniform(0.0, 0.95)
    if colour > 0.2:
        noise = fftconvolve(noise, colour ** np.arange(64))[:size]
    decibels = draw.uniform(*(NOISY_DB if room == "noisy" else QUIET_DB))
    return (noise * (level / np.sqrt(np.mean(np.square(noise))) * 10 ** (-decibels / 20))).astype(np.float32)
