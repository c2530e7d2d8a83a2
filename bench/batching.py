"""What requests gain that share decode steps: CPU time a request, against the same ones one after the other.

A decoder with random weights and a toy encoder, audio encoded before, one thread, greedy search, 64 new
tokens. Both ways take turns in one process, and ratios are of medians over the rounds. `decode` is what is
left of `whole` without the prefill, measured by requests for one token. In the last case requests of several
lengths, profiles and numbers of tokens arrive at random times.

    python bench/batching.py -o bench/results/batching.json
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import quiet
from compare import SIZES
from random_checkpoint import write_checkpoint

from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import load_profile
from fastadasp.runtime import EncodedAudio, PromptIds, SpeechLM
from fastadasp.runtime.environment import environment

PROFILES = ("full", "dense-constant-50")
SECONDS, BEAMS = (10, 30), (1, 5)
CONCURRENT, NEW_TOKENS, RATE, THREADS = 8, 64, 16000, 1
TEXT = PromptIds(np.arange(2, 6), np.arange(2, 10))
TARGETS = {(10, "whole"): 2.8, (30, "whole"): 2.0, (10, "decode"): 4.0}  # of profile full, greedy


@dataclass(frozen=True)
class Asked:
    """One request."""

    audio: EncodedAudio
    profile: str
    new_tokens: int = NEW_TOKENS
    beams: int = 1

    @property
    def keywords(self) -> dict[str, Any]:
        """For `generate` and `submit`."""
        search = {"num_beams": self.beams, "max_new_tokens": self.new_tokens, "eos_token_ids": ()}
        return {"prompt": TEXT, "profile": self.profile, **search}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("build/batching.json"))
    parser.add_argument("--artifact", type=Path, help="one that is there; built for the run otherwise")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, nargs="+", default=SECONDS)
    parser.add_argument("--beams", type=int, nargs="+", default=BEAMS)
    quiet.add_option(parser)
    options = parser.parse_args()
    quiet.refuse_busy(parser, options)
    before = environment(THREADS)
    with tempfile.TemporaryDirectory() as scratch:
        artifact = options.artifact or _built(Path(scratch))
        with SpeechLM.load(artifact, threads=THREADS, max_batch=CONCURRENT) as model:
            records = [
                measured(model, seconds, profile, beams, options.rounds)
                for beams, seconds, profile in product(options.beams, options.seconds, PROFILES)
            ]
            records.append(at_random_times(model, options.rounds))
    result = {"model": SIZES, "new_tokens": NEW_TOKENS, "concurrent": CONCURRENT}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**result, "environment": asdict(before), "records": records}, indent=1)
    options.output.write_text(text + "\n")


def measured(model: SpeechLM, seconds: int, profile: str, beams: int, rounds: int) -> dict[str, Any]:
    """Equal requests that arrive at once, twice as many as are decoded together."""
    audio = encoded(model, seconds)
    whole = [Asked(audio, profile, beams=beams)] * (2 * CONCURRENT)
    times = in_turns(
        {
            "sequential": lambda: sequential(model, whole[:4]),
            "batched": lambda: together(model, whole),
            "prefill": lambda: sequential(model, [Asked(audio, profile, 1, beams)] * 4),
        },
        rounds,
    )
    alone, shared, prefill = (times[name] for name in ("sequential", "batched", "prefill"))
    ratios = {"whole": alone / shared, "decode": (alone - prefill) / (shared - prefill)}
    case = {"seconds": seconds, "profile": profile, "beams": beams}
    say(case, times, ratios)
    targets = {
        name: target
        for (length, name), target in TARGETS.items()
        if (length, profile, beams) == (seconds, "full", 1)
    }
    return {**case, "cpu_ms": times, "ratios": ratios, "targets": targets}


def at_random_times(model: SpeechLM, rounds: int) -> dict[str, Any]:
    """Requests that differ, as many a second as one thread answers twice over when they come one by one."""
    rng = random.Random(0)
    heard = {seconds: encoded(model, seconds) for seconds in (3, 6, 10, 20, 30)}
    asked = [
        Asked(heard[rng.choice(list(heard))], rng.choice(PROFILES), rng.randint(16, 96)) for _ in range(32)
    ]
    mean = sequential(model, asked) / 1e3
    gaps = [rng.expovariate(2 / mean) for _ in asked]
    times = in_turns(
        {
            "sequential": lambda: sequential(model, asked),
            "batched": lambda: together(model, asked, gaps),
        },
        rounds,
    )
    ratios = {"whole": times["sequential"] / times["batched"]}
    case = {"arrival": "random", "requests": len(asked), "per_second": 2 / mean}
    say(case, times, ratios)
    return {**case, "cpu_ms": times, "ratios": ratios}


def sequential(model: SpeechLM, asked: Sequence[Asked]) -> float:
    """CPU milliseconds a request, one after the other."""
    begin = time.process_time()
    for each in asked:
        model.generate(each.audio, **each.keywords)
    return (time.process_time() - begin) / len(asked) * 1e3


def together(model: SpeechLM, asked: Sequence[Asked], gaps: Sequence[float] = ()) -> float:
    """CPU milliseconds a request, submitted with these seconds between them, or at once."""
    begin, requests = time.process_time(), []
    for i, each in enumerate(asked):
        requests.append(model.submit(each.audio, **each.keywords))
        if gaps:
            time.sleep(gaps[i])
    for request in requests:
        request.result()
    return (time.process_time() - begin) / len(asked) * 1e3


def in_turns(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The median of each over the rounds, after one that is not counted."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(rounds + 1):
        for name, way in ways.items():
            value = way()
            if i:
                found[name].append(value)
    return {name: statistics.median(values) for name, values in found.items()}


def encoded(model: SpeechLM, seconds: int) -> EncodedAudio:
    """Noise of a length."""
    samples = 0.1 * np.random.default_rng(seconds).standard_normal(seconds * RATE, np.float32)
    return model.encode(samples)


def say(case: dict[str, Any], times: dict[str, float], ratios: dict[str, float]) -> None:
    """One line."""
    words = " ".join(f"{name} {value}" for name, value in case.items())
    ways = ", ".join(f"{name} {value:.0f} ms" for name, value in times.items())
    print(
        f"{words}: {ways}; " + ", ".join(f"{name} {ratio:.2f}x" for name, ratio in ratios.items()), flush=True
    )


def _built(folder: Path) -> Path:
    write_checkpoint(folder / "checkpoint", SIZES)
    build(folder / "checkpoint", folder / "artifact", BuildOptions(tuple(map(load_profile, PROFILES))))
    return folder / "artifact"


if __name__ == "__main__":
    main()
