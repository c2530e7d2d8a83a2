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
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from itertools import product
from pathlib import Path
from typing import Any

import psutil
from under_load import MOST_GROWTH, answer_figures, conclude, keep_asking, memory, memory_figures, parser_of

from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import load_profile
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.environment import environment

DEMO = Path(__file__).parent.parent / "demo"
CLIPS = ("dates-01", "digits-02", "numbers-03")
PROFILES = ("full", "dense-constant-50")
BEAMS, FORMATS = (1, 3, 5), ("json", "stream", "verbose_json")
THREADS, PROMPT = 1, "<asr>"
MOST_OVERHEAD_MS, MOST_READY_SECONDS = 5.0, 3.0
TURNS = 100  # requests of each side for the overhead


@dataclass(frozen=True)
class Asked:
    """A request."""

    profile: str
    beams: int
    clip: str
    form: str


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
    parser = parser_of(__doc__)
    parser.add_argument("--workers", type=int, default=2)
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
            with memory(server.family) as samples:
                told = keep_asking(kinds, lambda: _client(server, clips, alone), options)
            found = {
                "ready_seconds": server.ready_seconds,
                "ready_seconds_bound": MOST_READY_SECONDS,
                **overhead,
                **memory_figures(samples, options.seconds),
                **answer_figures(told, options.seconds, "texts_differ"),
                "worker_deaths": _metric(server, "worker_deaths_total"),
            }
    mix = {"profiles": PROFILES, "beams": BEAMS, "formats": FORMATS, "clips": CLIPS}
    well = "ready in time, flat memory, equal answers, little overhead"
    return conclude(found, _checks(found), well, before, options, mix)


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


def _client(
    server: Server, clips: Mapping[str, bytes], alone: Mapping[Asked, str]
) -> Callable[[Asked], bool]:
    """One that keeps its connection, but for faults."""
    connection = HTTPConnection("127.0.0.1", server.port)

    def ask(asked: Asked) -> bool:
        try:
            return _ask(connection, asked, clips) == alone[asked]
        except Exception:
            connection.close()
            raise

    return ask


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


def _checks(found: Mapping[str, Any]) -> Mapping[str, bool]:
    growth = max(found["rss_growth_bytes"])
    return {
        f"ready after {found['ready_seconds']:.1f} s": found["ready_seconds"] > MOST_READY_SECONDS,
        f"HTTP adds {found['overhead_ms']:.1f} ms": found["overhead_ms"] > MOST_OVERHEAD_MS,
        f"memory of a process grew by {growth / 1e6:.1f} MB": growth > MOST_GROWTH,
        f"{sum(found['texts_differ'].values())} answers have another text": bool(found["texts_differ"]),
        f"requests failed: {found['failures']}": bool(found["failures"]),
        "workers have died": bool(found["worker_deaths"]),
        "nothing was answered": not found["answered"],
    }


if __name__ == "__main__":
    sys.exit(main())
