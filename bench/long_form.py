"""Audio of minutes and hours: what segments cost in accuracy, memory and time, and where their times lie.

    python bench/long_form.py -o bench/results/long_form.json [--sounds FOLDER]

Recordings are made of clips of a human voice (demo/evaluation_sets.py) with pauses between them, so that
the text and the place of every clip are known. Accuracy: word error rate of the demo model by segments, by
windows of fixed length, and on the whole recording at once. The hour: a file of one hour and one of five
minutes, each heard in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import numpy.typing as npt
import quiet
import soundfile
import soxr

from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import load_profile
from fastadasp.runtime import SegmentOptions, SpeechLM
from fastadasp.runtime.environment import environment

Array = npt.NDArray[np.float32]

ROOT = Path(__file__).parent.parent
PROFILES = ("full", "dense-constant-50")
RATE, THREADS, SEED = 16000, 1, 21
FLOOR = 3e-4  # standard deviation of the noise in pauses, as in the clips
RECORDINGS, RECORDING_SECONDS = 2, 200.0
PAUSES = {"0.6 to 4 s": (0.6, 4.0), "none": (0.02, 0.19)}  # seconds; none: no longer than between two words
NOISES = {"clean": None, "10 dB": 10.0}  # signal to noise
CASES = (*product(["0.6 to 4 s"], NOISES), ("none", "clean"))
MOST_TOKENS = 1000
SEGMENTS = {
    "segments": SegmentOptions(),
    "segments of at most 10 s": SegmentOptions(max_seconds=10.0),
    "segments joined to 28 s": SegmentOptions(merge_seconds=28.0, merge_pause=4.0),
}
WINDOWS = {"windows of 10 s": 10.0, "windows of 30 s": 30.0, "whole recording": RECORDING_SECONDS * 2}
FILES = {"MP3, 44.1 kHz, stereo": ("mp3", 44100, 2)}
LENGTHS = (300.0, 3600.0)
STRETCH = 600.0  # seconds of the hour over which times are compared


@dataclass(frozen=True)
class Placed:
    """A clip in a recording."""

    start: float  # seconds
    end: float
    text: str


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("build/long_form.json"))
    parser.add_argument("--sounds", type=Path, help="folder with the unpacked Debian package of the voice")
    parser.add_argument(
        "--part", choices=PARTS, action="append", help="measure this, keep what else is there"
    )
    quiet.add_option(parser)
    options = parser.parse_args()
    quiet.refuse_busy(parser, options)
    clips = human_clips(options.sounds)
    result = json.loads(options.output.read_text("utf-8")) if options.output.is_file() else {}
    with tempfile.TemporaryDirectory() as scratch:
        artifact = Path(scratch) / "demo"
        build(ROOT / "demo" / "model", artifact, BuildOptions(tuple(map(load_profile, PROFILES))))
        for part in options.part or PARTS:
            before = environment(THREADS, ["jiwer"])
            result[part] = {
                "environment": asdict(before),
                "records": list(PARTS[part](artifact, clips, Path(scratch))),
            }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(dict(sorted(result.items())), indent=1) + "\n")


def human_clips(sounds: Path | None) -> list[tuple[Array, str]]:
    """A human voice, 2 to 10 s a clip, with what it says."""
    sys.path.insert(0, str(ROOT / "demo"))
    from asterisk_words import fetch, load_words
    from evaluation_sets import human

    words = load_words(sounds or fetch(ROOT / "build" / "asterisk"))
    draw = np.random.default_rng(SEED)
    return [(samples, " ".join(facts.words)) for samples, facts in human(words, 100, draw)]


def recording(
    clips: Sequence[tuple[Array, str]], seconds: float, pauses: tuple[float, float], draw: np.random.Generator
) -> Iterator[tuple[Array, Placed | None]]:
    """Pauses and clips in turn, up to the first end beyond `seconds`."""
    at = 0.0
    while at < seconds:
        pause = draw.normal(0.0, FLOOR, int(draw.uniform(*pauses) * RATE)).astype(np.float32)
        samples, text = clips[int(draw.integers(len(clips)))]
        start = at + len(pause) / RATE
        at = start + len(samples) / RATE
        yield pause, None
        yield samples, Placed(start, at, text)


def noisy(samples: Array, ratio: float | None, draw: np.random.Generator) -> Array:
    """With pink noise, whose level is `ratio` dB below that of what is not a pause."""
    if ratio is None:
        return samples
    spectrum = np.fft.rfft(draw.standard_normal(len(samples)))
    pink = np.fft.irfft(spectrum / np.sqrt(np.arange(1, len(spectrum) + 1)), len(samples))
    speech = np.square(samples[np.abs(samples) > 0.01]).mean()
    level = np.sqrt(speech / 10 ** (ratio / 10) / np.square(pink).mean())
    return (samples + level * pink).astype(np.float32)


def accuracy(artifact: Path, clips: Sequence[tuple[Array, str]], folder: Path) -> Iterator[dict[str, Any]]:
    """Word error rate and CPU time of every way to cut, in every case, under every profile."""
    model = SpeechLM.load(artifact, threads=THREADS)
    ways = {name: _by_windows(seconds) for name, seconds in WINDOWS.items()}
    ways |= {name: _by_segments(options) for name, options in SEGMENTS.items()}
    for pauses, noise in CASES:
        draw = np.random.default_rng((SEED, 1))
        made = [list(recording(clips, RECORDING_SECONDS, PAUSES[pauses], draw)) for _ in range(RECORDINGS)]
        waves = [noisy(np.concatenate([part for part, _ in each]), NOISES[noise], draw) for each in made]
        texts = [" ".join(clip.text for _, clip in each if clip) for each in made]
        for profile, (name, way) in product(PROFILES, ways.items()):
            begin = time.process_time()
            answers = [way(model, wave, profile) for wave in waves]
            yield _said(
                {
                    **{"pauses": pauses, "noise": noise, "profile": profile, "way": name},
                    "recordings": len(waves),
                    "wer": jiwer.wer(texts, [" ".join(parts) for parts in answers]),
                    "requests": sum(map(len, answers)),
                    "cpu_seconds": time.process_time() - begin,
                    "audio_seconds": sum(map(len, waves)) / RATE,
                }
            )


Way = Callable[[SpeechLM, Array, str], list[str]]


def _by_windows(seconds: float) -> Way:
    step = round(seconds * RATE)

    def way(model: SpeechLM, wave: Array, profile: str) -> list[str]:
        parts = [wave[at : at + step] for at in range(0, len(wave), step)]
        heard = [part for part in parts if len(part) > RATE // 10]
        return [
            model.generate(part, "<asr>", profile=profile, max_new_tokens=MOST_TOKENS).text for part in heard
        ]

    return way


def _by_segments(options: SegmentOptions) -> Way:
    def way(model: SpeechLM, wave: Array, profile: str) -> list[str]:
        asked: dict[str, Any] = {"profile": profile, "max_new_tokens": MOST_TOKENS, "segmenting": options}
        return [segment.text for segment in model.segments(wave, "<asr>", **asked)]

    return way


def hour(artifact: Path, clips: Sequence[tuple[Array, str]], folder: Path) -> Iterator[dict[str, Any]]:
    """Peak memory, times and completeness, for both lengths of every kind of file."""
    for (name, (ending, rate, channels)), seconds in product(FILES.items(), LENGTHS):
        path = folder / f"{seconds:.0f}.{ending}"
        placed = write(path, clips, seconds, rate, channels)
        command = [sys.executable, __file__, "--listen", str(artifact), str(path)]
        out = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(out.stdout)
        segments = found.pop("segments")
        kind = {"file": name, "seconds": seconds, "file_bytes": path.stat().st_size}
        yield _said({**kind, **found, **judged(segments, placed)})
        path.unlink()


def write(
    path: Path, clips: Sequence[tuple[Array, str]], seconds: float, rate: int, channels: int
) -> list[Placed]:
    """Write a recording piece by piece; where each clip stands in it."""
    placed: list[Placed] = []
    resampler = soxr.ResampleStream(RATE, rate, 1, dtype="float32")
    with soundfile.SoundFile(path, "w", samplerate=rate, channels=channels) as file:
        for samples, clip in recording(clips, seconds, PAUSES["0.6 to 4 s"], np.random.default_rng(SEED)):
            other = samples if rate == RATE else resampler.resample_chunk(samples)
            file.write(np.repeat(other[:, None], channels, axis=1))
            placed += [clip] if clip else []
        if rate != RATE:
            rest = resampler.resample_chunk(np.empty(0, np.float32), last=True)
            file.write(np.repeat(rest[:, None], channels, axis=1))
    return placed


def listen(artifact: str, path: str) -> None:
    """The child process: all segments of a file, and what they took."""
    model = SpeechLM.load(artifact, PROFILES[0], threads=THREADS)
    warm = np.random.default_rng(0).standard_normal(RATE * 8).astype(np.float32) / 100
    model.generate(warm, "<asr>", max_new_tokens=4)
    list(model.segments(warm, "<asr>"))
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    begin, cpu = time.perf_counter(), time.process_time()
    found = model.segments(path, "<asr>")
    segments = [(segment.start, segment.end, segment.text) for segment in found]
    took = {"clock_seconds": time.perf_counter() - begin, "cpu_seconds": time.process_time() - cpu}
    peak = {"loaded_bytes": before, "peak_bytes": _status("VmHWM") - before}
    print(json.dumps({"audio_seconds": found.audio_seconds, **took, **peak, "segments": segments}))


def judged(segments: list[tuple[float, float, str]], placed: list[Placed]) -> dict[str, Any]:
    """How the segments of a recording agree with what is known of it."""
    heard = [[s for s in segments if s[0] < clip.end and s[1] > clip.start] for clip in placed]
    offsets = [
        (clip.start, found[0][0] - clip.start) for clip, found in zip(placed, heard, strict=True) if found
    ]
    ends = [(clip.start, found[-1][1] - clip.end) for clip, found in zip(placed, heard, strict=True) if found]
    times = [time for start, end, _ in segments for time in (start, end)]
    text = " ".join(clip.text for clip in placed)
    return {
        "clips": len(placed),
        "clips_missed": sum(not found for found in heard),
        "segments": len(segments),
        "segments_beside_clips": sum(
            not any(s[0] < clip.end and s[1] > clip.start for clip in placed) for s in segments
        ),
        "in_order": times == sorted(times),
        "wer": jiwer.wer(text, " ".join(text for _, _, text in segments)),
        "start_offsets": _stretches(offsets),
        "end_offsets": _stretches(ends),
        "drift_ms_per_hour": float(np.polyfit(*zip(*offsets, strict=True), 1)[0] * 3600 * 1000),
    }


def _stretches(offsets: list[tuple[float, float]]) -> list[dict[str, float]]:
    """Of segments against clips, in seconds, for each stretch of the recording."""
    stretches: dict[int, list[float]] = {}
    for at, offset in offsets:
        stretches.setdefault(int(at // STRETCH), []).append(offset)
    return [
        {"from": index * STRETCH, "median": float(np.median(v)), "least": min(v), "most": max(v)}
        for index, v in sorted(stretches.items())
    ]


PARTS = {"accuracy": accuracy, "hour": hour}


def _said(record: dict[str, Any]) -> dict[str, Any]:
    print(json.dumps(record), file=sys.stderr)
    return record


def _status(key: str) -> int:
    """One figure of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--listen"]:
        listen(*sys.argv[2:])
    else:
        main()
