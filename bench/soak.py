"""A model under load for long: memory over time, and each answer against that of the request alone (Linux).

Clients submit requests that differ in profile, beams and length of audio, each as soon as it has its last
answer. The demo is built for it, with clips of its own. The memory that counts is the resident memory of this
process after a first part of the time, and how much a line through it rises.

    python bench/soak.py --seconds 600 -o bench/results/soak.json
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import load_profile, parse_profile
from fastadasp.runtime import GenerationResult, SpeechLM
from fastadasp.runtime.audio.read import load_audio
from fastadasp.runtime.benchmark.benchmark import repeat
from fastadasp.runtime.benchmark.load.records import Percentiles
from fastadasp.runtime.environment import environment

DEMO = Path(__file__).parent.parent / "demo"
CLIPS, RATE = ("dates-01", "digits-02", "numbers-03"), 16000
PROFILES = ("full", "dense-constant-50")
H2O = 'method = "h2o"\nschedule = "constant"\nstart_layer = 1\nratio = 0.5\n'
KEPT = 'method = "weighted_merge"\nschedule = "constant"\nstart_layer = 1\nratio = 0.2\npositions = "kept"\n'
BEAMS, SECONDS = (1, 3, 5), (1.5, 3.0, 9.0)
NEW_TOKENS, THREADS = 32, 1
SETTLING = 120.0  # seconds after which memory counts, or after half of the time
EVERY = 1.0  # seconds between two looks at the memory
MOST_GROWTH = 16e6  # bytes that the line through the memory may rise in the time that counts
ROUNDING = 1e-4  # that scores may differ by


@dataclass(frozen=True)
class Asked:
    """A request."""

    profile: str
    beams: int
    seconds: float
    clip: str


@dataclass
class Told:
    """What the clients have seen: numbers alone, so that what is kept does not grow much."""

    answered: int = 0
    tokens_differ: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    worst_score: float = 0.0
    request_ms: array[float] = field(default_factory=lambda: array("d"))
    lock: threading.Lock = field(default_factory=threading.Lock)


def main() -> int:
    """Print what was found, and write it if asked; 1 where memory has grown or an answer is another one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--max-batch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    before = environment(THREADS)
    with tempfile.TemporaryDirectory() as scratch, _model(Path(scratch), options.max_batch) as model:
        audio = _audio()
        kinds = [Asked(*each) for each in product(model.profiles, BEAMS, SECONDS, CLIPS)]
        alone = {asked: _answer(model, asked, audio) for asked in kinds}
        print(f"{len(kinds)} requests answered alone", flush=True)
        with _memory() as samples:
            told = _soak(model, kinds, audio, alone, options)
    found = {**_memory_figures(samples, options.seconds), **_answer_figures(told, options.seconds)}
    faults = list(_faults(found))
    for name, value in found.items():
        if name != "rss":
            print(f"{name}: {value}")
    if options.output:
        asked = {name: value for name, value in vars(options).items() if name != "output"}
        mix = {"profiles": model.profiles, "beams": BEAMS, "audio_seconds": SECONDS, "new_tokens": NEW_TOKENS}
        content = {**asked, **mix, "environment": asdict(before), **found, "faults": faults}
        options.output.write_text(json.dumps(content, indent=1) + "\n")
    print("\n".join(faults) or "flat memory, equal answers")
    return 1 if faults else 0


def _model(folder: Path, max_batch: int) -> SpeechLM:
    """The demo with profiles of every kind."""
    own = (parse_profile(H2O, "h2o-50", "bench/soak.py"), parse_profile(KEPT, "kept-20", "bench/soak.py"))
    profiles = (*map(load_profile, PROFILES), *own)
    build(DEMO / "model", folder / "ART", BuildOptions(profiles))
    return SpeechLM.load(folder / "ART", threads=THREADS, max_batch=max_batch)


def _audio() -> Mapping[tuple[str, float], np.ndarray[Any, np.dtype[np.float32]]]:
    """Each clip, repeated or cut to each length."""
    clips = {name: load_audio(DEMO / "clips" / f"{name}.flac", RATE).samples for name in CLIPS}
    return {(name, seconds): repeat(clips[name], seconds, RATE) for name, seconds in product(CLIPS, SECONDS)}


def _keywords(asked: Asked) -> dict[str, Any]:
    return {"profile": asked.profile, "num_beams": asked.beams, "max_new_tokens": NEW_TOKENS}


def _answer(model: SpeechLM, asked: Asked, audio: Mapping[tuple[str, float], Any]) -> GenerationResult:
    return model.generate(audio[asked.clip, asked.seconds], "<asr>", **_keywords(asked))


def _soak(
    model: SpeechLM,
    kinds: Sequence[Asked],
    audio: Mapping[tuple[str, float], Any],
    alone: Mapping[Asked, GenerationResult],
    options: argparse.Namespace,
) -> Told:
    told, end = Told(), time.monotonic() + options.seconds

    def client(number: int) -> None:
        dice = random.Random(options.seed * 1000 + number)
        while time.monotonic() < end:
            asked = dice.choice(kinds)
            try:
                request = model.submit(audio[asked.clip, asked.seconds], "<asr>", **_keywords(asked))
                result = request.result()
            except Exception as error:  # whatever it is, it is what this looks for
                with told.lock:
                    told.failures[f"{type(error).__name__}: {error}"] += 1
                continue
            _compare(told, asked, result, alone[asked])

    with ThreadPoolExecutor(options.concurrency) as clients:
        for each in [clients.submit(client, number) for number in range(options.concurrency)]:
            each.result()
    return told


def _compare(told: Told, asked: Asked, found: GenerationResult, wanted: GenerationResult) -> None:
    """Tokens of every hypothesis, and scores."""
    same = [each.tokens for each in found.hypotheses] == [each.tokens for each in wanted.hypotheses]
    pairs = zip(found.hypotheses, wanted.hypotheses, strict=False)
    worst = max(abs(one.score - other.score) for one, other in pairs)
    with told.lock:
        told.answered += 1
        told.request_ms.append(found.latency.request_ms)
        if same:
            told.worst_score = max(told.worst_score, worst)
        else:
            told.tokens_differ[str(asked)] += 1


@contextmanager
def _memory() -> Any:
    """Looks at the resident memory now and then: (seconds, bytes) a look."""
    samples: list[tuple[float, int]] = []
    begin, ended = time.monotonic(), threading.Event()

    def look() -> None:
        while not ended.wait(EVERY):
            samples.append((time.monotonic() - begin, _resident()))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield samples
    finally:
        ended.set()
        watcher.join()


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def _memory_figures(samples: Sequence[tuple[float, int]], seconds: float) -> dict[str, Any]:
    """A line by least squares through what was seen after the model has settled."""
    settled = min(SETTLING, seconds / 2)
    counted = np.array([each for each in samples if settled <= each[0] <= seconds])
    times, resident = counted[:, 0], counted[:, 1]
    slope = float(np.polyfit(times, resident, 1)[0])
    return {
        "rss_counted_from_seconds": settled,
        "rss_slope_bytes_per_minute": slope * 60,
        "rss_growth_bytes": slope * float(times[-1] - times[0]),
        "rss_growth_bound_bytes": MOST_GROWTH,
        "rss_least_bytes": int(resident.min()),
        "rss_largest_bytes": int(resident.max()),
        "rss": [[round(when, 1), found] for when, found in samples],
    }


def _answer_figures(told: Told, seconds: float) -> dict[str, Any]:
    times = Percentiles.of(told.request_ms)
    return {
        "answered": told.answered,
        "requests_per_second": told.answered / seconds,
        "request_ms": None if times is None else asdict(times),
        "tokens_differ": dict(told.tokens_differ),
        "failures": dict(told.failures),
        "largest_score_difference": told.worst_score,
        "score_difference_bound": ROUNDING,
    }


def _faults(found: Mapping[str, Any]) -> Sequence[str]:
    checks = {
        f"memory grew by {found['rss_growth_bytes'] / 1e6:.1f} MB": found["rss_growth_bytes"] > MOST_GROWTH,
        f"{sum(found['tokens_differ'].values())} answers have other tokens": bool(found["tokens_differ"]),
        f"scores differ by {found['largest_score_difference']:.1e}": (
            found["largest_score_difference"] > ROUNDING
        ),
        f"requests failed: {found['failures']}": bool(found["failures"]),
        "nothing was answered": not found["answered"],
    }
    return [fault for fault, is_so in checks.items() if is_so]


if __name__ == "__main__":
    sys.exit(main())
