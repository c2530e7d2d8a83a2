"""What benches of a long load share: clients that ask again and again, a watch over memory, the verdict."""

from __future__ import annotations

import argparse
import json
import random
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil

from fastadasp.runtime.benchmark.load.records import Percentiles
from fastadasp.runtime.environment import Environment

SETTLING = 120.0  # seconds after which memory counts, or after half of the time
EVERY = 1.0  # seconds between two looks at the memory
MOST_GROWTH = 16e6  # bytes that the line through the memory may rise in the time that counts
Asked = TypeVar("Asked")


@dataclass
class Told:
    """What the clients have seen: numbers alone, so that what is kept does not grow much."""

    request_ms: array[float] = field(default_factory=lambda: array("d"))
    differ: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)


def parser_of(words: str | None) -> argparse.ArgumentParser:
    """The options that all have."""
    parser = argparse.ArgumentParser(description=words, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path)
    return parser


def keep_asking(
    kinds: Sequence[Asked], new_client: Callable[[], Callable[[Asked], bool]], options: argparse.Namespace
) -> Told:
    """Have clients send requests of all kinds by chance, each as soon as it has its last answer.

    Args:
        kinds: the requests.
        new_client: gives what sends one request, and says whether the answer is the one that it should be.
        options: those of `parser_of`.
    """
    told, end = Told(), time.monotonic() + options.seconds

    def client(number: int) -> None:
        dice, ask = random.Random(options.seed * 1000 + number), new_client()
        while time.monotonic() < end:
            asked, begin = dice.choice(kinds), time.perf_counter()
            try:
                is_right = ask(asked)
            except Exception as error:  # whatever it is, it is what this looks for
                with told.lock:
                    told.failures[f"{type(error).__name__}: {error}"] += 1
                continue
            with told.lock:
                told.request_ms.append((time.perf_counter() - begin) * 1e3)
                if not is_right:
                    told.differ[str(asked)] += 1

    with ThreadPoolExecutor(options.concurrency) as clients:
        for each in [clients.submit(client, number) for number in range(options.concurrency)]:
            each.result()
    return told


@contextmanager
def memory(processes: Sequence[psutil.Process]) -> Iterator[list[list[float]]]:
    """Looks at the resident memory now and then: seconds, then bytes of each process."""
    samples: list[list[float]] = []
    begin, ended = time.monotonic(), threading.Event()

    def look() -> None:
        while not ended.wait(EVERY):
            samples.append([time.monotonic() - begin, *(each.memory_info().rss for each in processes)])

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield samples
    finally:
        ended.set()
        watcher.join()


def memory_figures(samples: Sequence[Sequence[float]], seconds: float) -> dict[str, Any]:
    """For each process the line by least squares through what was seen after all have settled."""
    settled = min(SETTLING, seconds / 2)
    counted = np.array([each for each in samples if settled <= each[0] <= seconds])
    times, resident = counted[:, 0], counted[:, 1:]
    slopes = [float(np.polyfit(times, each, 1)[0]) for each in resident.T]
    return {
        "rss_counted_from_seconds": settled,
        "rss_growth_bytes": [slope * float(times[-1] - times[0]) for slope in slopes],
        "rss_growth_bound_bytes": MOST_GROWTH,
        "rss_largest_bytes": [int(each) for each in resident.max(axis=0)],
        "rss": [[round(each[0], 1), *map(int, each[1:])] for each in samples],
    }


def answer_figures(told: Told, seconds: float, what_differs: str) -> dict[str, Any]:
    """How many answers there were, how long they took, and which were other ones than they should be."""
    times = Percentiles.of(list(told.request_ms))
    return {
        "answered": len(told.request_ms),
        "requests_per_second": len(told.request_ms) / seconds,
        "request_ms": None if times is None else asdict(times),
        what_differs: dict(told.differ),
        "failures": dict(told.failures),
    }


def conclude(
    found: Mapping[str, Any],
    checks: Mapping[str, bool],
    well: str,
    before: Environment,
    options: argparse.Namespace,
    mix: Mapping[str, Any],
) -> int:
    """Print what was found, and write it if asked; 1 where a bound is not kept.

    Args:
        found: the figures.
        checks: faults in words, and whether each is there.
        well: what there is to say without any.
        before: the machine before the load.
        options: of the command.
        mix: what was asked.
    """
    faults = [fault for fault, is_so in checks.items() if is_so]
    for name, value in found.items():
        if name != "rss":
            print(f"{name}: {value}")
    if options.output:
        asked = {name: value for name, value in vars(options).items() if name != "output"}
        content = {**asked, **mix, "environment": asdict(before), **found, "faults": faults}
        options.output.write_text(json.dumps(content, indent=1) + "\n")
    print("\n".join(faults) or well)
    return 1 if faults else 0
