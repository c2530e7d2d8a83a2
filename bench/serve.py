"""A server under load for long: memory of its processes, answers against single runs, what HTTP adds (Linux).

The demo is built for it, and served by the command. Clients that differ in profile, beams, clip and format of
the answer each send a request as soon as they have their last answer. Memory counts after a first part of the
time: how much a line through it rises, for the server and for its workers. Before that, one client asks the
server and the library in turns: the difference is what HTTP and the other process add.

    python bench/serve.py --seconds 600 --concurrency 16 -o bench/results/serve.json
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from http.client import HTTPConnection
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import load_profile
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.benchmark.load.records import Percentiles
from fastadasp.runtime.environment import environment

DEMO = Path(__file__).parent.parent / "demo"
CLIPS = ("dates-01", "digits-02", "numbers-03")
PROFILES = ("full", "dense-constant-50")
BEAMS, FORMATS = (1, 3, 5), ("json", "stream", "verbose_json")
THREADS, PROMPT = 1, "<asr>"
SETTLING = 120.0  # seconds after which memory counts, or after half of the time
EVERY = 1.0  # seconds between two looks at the memory
MOST_GROWTH = 16e6  # bytes that the line through the memory may rise in the time that counts
MOST_OVERHEAD_MS, MOST_READY_SECONDS = 5.0, 3.0
TURNS = 100  # requests of each side for the overhead


@dataclass(frozen=True)
class Asked:
    """A request."""

    profile: str
    beams: int
    clip: str
    form: str


@dataclass
class Told:
    """What the clients have seen."""

    request_ms: list[float] = field(default_factory=list)
    differ: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class Server:
    """One that is ready."""

    process: psutil.Process
    port: int
    ready_seconds: float

    @property
    def family(self) -> list[psutil.Process]:
        """The server, then its workers."""
        return [self.process, *(each for each in self.process.children() if "spawn_main" in _words(each))]


def main() -> int:
    """Print what was found, and write it if asked; 1 where a bound is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    before = environment(THREADS)
    with tempfile.TemporaryDirectory() as scratch:
        artifact = Path(scratch) / "demo"
        build(DEMO / "model", artifact, BuildOptions(tuple(map(load_profile, PROFILES))))
        clips = {name: (DEMO / "clips" / f"{name}.flac").read_bytes() for name in CLIPS}
        kinds = [Asked(*each) for each in product(PROFILES, BEAMS, CLIPS, FORMATS)]
        with SpeechLM.load(artifact, threads=THREADS) as model, _served(artifact, options) as server:
            alone = {asked: _alone(model, asked, clips) for asked in kinds}
            overhead = _overhead(model, server, clips)
            with _memory(server) as samples:
                told = _soak(server, kinds, clips, alone, options)
            found = {
                "ready_seconds": server.ready_seconds,
                "ready_seconds_bound": MOST_READY_SECONDS,
                **overhead,
                **_memory_figures(samples, options.seconds),
                **_answer_figures(told, options.seconds),
                "worker_deaths": _metric(server, "worker_deaths_total"),
            }
    faults = list(_faults(found))
    for name, value in found.items():
        if name != "rss":
            print(f"{name}: {value}")
    if options.output:
        asked = {name: value for name, value in vars(options).items() if name != "output"}
        mix = {"profiles": PROFILES, "beams": BEAMS, "formats": FORMATS, "clips": CLIPS}
        content = {**asked, **mix, "environment": asdict(before), **found, "faults": faults}
        options.output.write_text(json.dumps(content, indent=1) + "\n")
    print("\n".join(faults) or "ready in time, flat memory, equal answers, little overhead")
    return 1 if faults else 0


@contextmanager
def _served(artifact: Path, options: argparse.Namespace) -> Iterator[Server]:
    """The command, from its start until it says that it is ready."""
    words = ("serve", artifact, "--port", 0, "--workers", options.workers, "--prompt", PROMPT)
    command = [sys.executable, "-P", "-m", "fastadasp.export", *map(str, words)]
    begin = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        said = ""
        for line in process.stdout:
            said += line
            if line.startswith("ready"):
                break
        found = re.search(r"http://127\.0\.0\.1:(\d+)", said)
        assert found, said
        try:
            yield Server(psutil.Process(process.pid), int(found[1]), time.monotonic() - begin)
        finally:
            process.terminate()
            process.communicate(timeout=60)


def _alone(model: SpeechLM, asked: Asked, clips: Mapping[str, bytes]) -> str:
    """What a single run answers, in the way in which the server is asked."""
    keywords: dict[str, Any] = {"profile": asked.profile, "num_beams": asked.beams}
    if asked.form == "verbose_json":
        return " ".join(each.text for each in model.segments(clips[asked.clip], PROMPT, **keywords))
    return model.generate(clips[asked.clip], PROMPT, **keywords).text


def _ask(connection: HTTPConnection, asked: Asked, clips: Mapping[str, bytes]) -> str:
    """The text of an answer. RuntimeError: another status than 200."""
    fields = {"model": f"demo:{asked.profile}", "num_beams": str(asked.beams)}
    fields |= {"stream": "true"} if asked.form == "stream" else {"response_format": asked.form}
    parts = [
        f'--B\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    body = b"".join((*parts, head, clips[asked.clip], b"\r\n--B--\r\n"))
    headers = {"content-type": "multipart/form-data; boundary=B"}
    connection.request("POST", "/v1/audio/transcriptions", body, headers)
    response = connection.getresponse()
    content = response.read()
    if response.status != 200:
        raise RuntimeError(f"{response.status}: {content[:200]!r}")
    if asked.form == "stream":
        events = [line[6:] for line in content.decode().splitlines() if line.startswith("data: {")]
        return str(json.loads(events[-1])["text"])
    return str(json.loads(content)["text"])


def _overhead(model: SpeechLM, server: Server, clips: Mapping[str, bytes]) -> dict[str, Any]:
    """Of one greedy request after the other: time and CPU time, by the server and by the library in turns."""
    asked = Asked(PROFILES[0], 1, CLIPS[0], "json")
    connection = HTTPConnection("127.0.0.1", server.port)
    wall: dict[str, list[float]] = {"server": [], "library": []}
    cpu = {"server": 0.0, "library": 0.0}
    for turn in range(-5, TURNS):  # the first ones are warm-up
        spent, begin = _cpu_of(server), time.perf_counter()
        _ask(connection, asked, clips)
        took, used = time.perf_counter() - begin, _cpu_of(server) - spent
        own, begin = time.process_time(), time.perf_counter()
        model.generate(clips[asked.clip], PROMPT, profile=asked.profile)
        if turn >= 0:
            wall["server"].append(took * 1e3)
            cpu["server"] += used
            wall["library"].append((time.perf_counter() - begin) * 1e3)
            cpu["library"] += time.process_time() - own
    connection.close()
    medians = {name: statistics.median(times) for name, times in wall.items()}
    return {
        "request_alone_ms": medians,
        "overhead_ms": medians["server"] - medians["library"],
        "overhead_bound_ms": MOST_OVERHEAD_MS,
        "cpu_alone_ms": {name: seconds * 1e3 / TURNS for name, seconds in cpu.items()},
        "overhead_cpu_ms": (cpu["server"] - cpu["library"]) * 1e3 / TURNS,
    }


def _cpu_of(server: Server) -> float:
    """Seconds of all processes, in the hundredths that the system counts."""
    return sum(sum(each.cpu_times()[:2]) for each in server.family)


def _soak(
    server: Server,
    kinds: Sequence[Asked],
    clips: Mapping[str, bytes],
    alone: Mapping[Asked, str],
    options: argparse.Namespace,
) -> Told:
    told, end = Told(), time.monotonic() + options.seconds

    def client(number: int) -> None:
        dice = random.Random(options.seed * 1000 + number)
        connection = HTTPConnection("127.0.0.1", server.port)
        while time.monotonic() < end:
            asked, begin = dice.choice(kinds), time.perf_counter()
            try:
                text = _ask(connection, asked, clips)
            except Exception as error:  # whatever it is, it is what this looks for
                connection.close()
                with told.lock:
                    told.failures[f"{type(error).__name__}: {error}"] += 1
                continue
            with told.lock:
                told.request_ms.append((time.perf_counter() - begin) * 1e3)
                if text != alone[asked]:
                    told.differ[str(asked)] += 1
        connection.close()

    with ThreadPoolExecutor(options.concurrency) as clients:
        for each in [clients.submit(client, number) for number in range(options.concurrency)]:
            each.result()
    return told


@contextmanager
def _memory(server: Server) -> Iterator[list[list[float]]]:
    """Looks at the resident memory now and then: seconds, bytes of the server, bytes of each worker."""
    samples: list[list[float]] = []
    begin, ended, family = time.monotonic(), threading.Event(), server.family

    def look() -> None:
        while not ended.wait(EVERY):
            samples.append([time.monotonic() - begin, *(each.memory_info().rss for each in family)])

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield samples
    finally:
        ended.set()
        watcher.join()


def _memory_figures(samples: Sequence[Sequence[float]], seconds: float) -> dict[str, Any]:
    """Lines by least squares through what was seen after the processes have settled."""
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


def _answer_figures(told: Told, seconds: float) -> dict[str, Any]:
    times = Percentiles.of(told.request_ms)
    return {
        "answered": len(told.request_ms),
        "requests_per_second": len(told.request_ms) / seconds,
        "request_ms": None if times is None else asdict(times),
        "texts_differ": dict(told.differ),
        "failures": dict(told.failures),
    }


def _metric(server: Server, name: str) -> float:
    connection = HTTPConnection("127.0.0.1", server.port)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return float(
        next(line.split()[-1] for line in text.splitlines() if line.startswith(f"fastadasp_{name} "))
    )


def _words(process: psutil.Process) -> str:
    return " ".join(process.cmdline())


def _faults(found: Mapping[str, Any]) -> Iterator[str]:
    growth = max(found["rss_growth_bytes"])
    checks = {
        f"ready after {found['ready_seconds']:.1f} s": found["ready_seconds"] > MOST_READY_SECONDS,
        f"HTTP adds {found['overhead_ms']:.1f} ms": found["overhead_ms"] > MOST_OVERHEAD_MS,
        f"memory of a process grew by {growth / 1e6:.1f} MB": growth > MOST_GROWTH,
        f"{sum(found['texts_differ'].values())} answers have another text": bool(found["texts_differ"]),
        f"requests failed: {found['failures']}": bool(found["failures"]),
        "workers have died": bool(found["worker_deaths"]),
        "nothing was answered": not found["answered"],
    }
    yield from (fault for fault, is_so in checks.items() if is_so)


if __name__ == "__main__":
    sys.exit(main())
