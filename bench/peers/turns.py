"""Systems take turns: round after round, one request of each, while the processes of the others wait."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peers.cases import NEW_TOKENS, WARM_UP_TOKENS, Part
from peers.systems import OURS, System, is_asked

Record = dict[str, Any]
SCRIPT = Path(__file__).parents[1] / "compare_peers.py"


class EndedError(Exception):
    """A process that ended; the message is what it said last."""


@dataclass(frozen=True)
class Place:
    """How the process of a system is started."""

    python: Path
    folder: Path  # with the files of the model
    extra: str = ""  # where its library lies

    def words(self, mode: str, system: System, model: str, threads: int) -> list[str]:
        """The command of a process."""
        asked = (mode, system.peer, system.form, model, threads, self.folder, self.extra)
        return [str(word) for word in (self.python, SCRIPT, "--process", *asked)]


@dataclass
class Worker:
    """The process of one system."""

    system: System
    process: subprocess.Popen[str]
    log: Path
    hello: Record = field(default_factory=dict)

    @classmethod
    def started(cls, system: System, place: Place, model: str, threads: int) -> Worker:
        """With the model loaded."""
        log = place.folder / f"{system.name.replace(' ', '-')}.log"
        with log.open("w") as errors:
            process = subprocess.Popen(
                place.words("serve", system, model, threads),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        worker = cls(system, process, log)
        try:
            worker.hello = worker._answer()
        except EndedError:
            worker.close()
            raise
        return worker

    def ask(self, seconds: int, beams: int, variant: str, tokens: int = NEW_TOKENS) -> Record:
        """One request."""
        assert self.process.stdin
        print(json.dumps([seconds, beams, variant, tokens]), file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Record:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            last = self.log.read_text("utf-8", "replace").strip().splitlines()[-1:]
            raise EndedError(f"ended with {self.process.wait()}: {' '.join(last)}")
        found: Record = json.loads(line)
        return found

    def close(self) -> None:
        """End the process, which reads no further line."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@dataclass
class Turns:
    """The requests of a part, and the systems that answer them."""

    part: Part
    places: dict[System, Place]
    beams: list[int]
    rounds: int
    absent: dict[str, str] = field(default_factory=dict)  # system -> why
    hellos: dict[str, Record] = field(default_factory=dict)
    _workers: dict[System, Worker] = field(default_factory=dict)
    _found: dict[tuple[int, str], list[Record]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[list[Record]]:
        """Now and then the medians so far, of all systems and requests in the order of the tables."""
        try:
            for turns in self._order():
                for i, system, beams in turns:
                    if system.name not in self.absent and any(self._asked(system, beams)):
                        self._turn(system, beams, i)
                yield [self._record(*key) for key in self._keys() if key in self._found]
        finally:
            for worker in self._workers.values():
                worker.close()

    def _order(self) -> Iterator[Iterator[tuple[int, System, int]]]:
        """Round after round; or system after system, each with all of its rounds while it is loaded."""
        rounds = range(self.rounds)
        if self.part.alone:
            return (((i, system, beams) for i in rounds for beams in self.beams) for system in self.places)
        return (((i, system, beams) for beams in self.beams for system in self.places) for i in rounds)

    def _asked(self, system: System, beams: int) -> Iterator[tuple[str, str]]:
        """The variants of a system that answer, and their titles."""
        return ((variant, title) for variant, title in system.titles() if is_asked(self.part, beams, title))

    def _turn(self, system: System, beams: int, i: int) -> None:
        try:
            worker = self._worker(system)
            for variant, title in self._asked(system, beams):
                found = worker.ask(self.part.seconds, beams, variant)
                self._found.setdefault((beams, title), []).append(found)
                self._tell(title, beams, i, found)
        except EndedError as error:
            self.absent[system.name] = str(error)
            if system in self._workers:
                self._workers.pop(system).close()
            print(f"{system.name}: not here: {error}", file=sys.stderr, flush=True)

    def _tell(self, title: str, beams: int, i: int, found: Record) -> None:
        case = f"{self.part.name}, beams {beams}, round {i + 1}"
        print(f"{case}: {title} {found['total_cpu_ms']:.0f} ms of CPU", file=sys.stderr, flush=True)

    def _worker(self, system: System) -> Worker:
        """Loaded, and warmed up by the first tokens of each of its requests, which are not counted."""
        if system in self._workers:
            return self._workers[system]
        if self.part.alone:
            for other in list(self._workers):
                self._workers.pop(other).close()
        worker = Worker.started(system, self.places[system], self.part.model, self.part.threads)
        self._workers[system] = worker
        self.hellos.setdefault(system.name, worker.hello)
        for beams in self.beams:
            for variant, _ in self._asked(system, beams):
                worker.ask(self.part.seconds, beams, variant, WARM_UP_TOKENS)
        return worker

    def _keys(self) -> Iterator[tuple[int, str]]:
        for beams in self.beams:
            yield from ((beams, title) for system in self.places for _, title in system.titles())

    def _record(self, beams: int, title: str) -> Record:
        found = self._found[beams, title]
        case = {"beams": beams, "system": title, "rounds": len(found), "peak_bytes": found[-1]["peak_bytes"]}
        times = {key: statistics.median(r[key] for r in found) for key in found[0] if key.endswith("_ms")}
        return {**case, "text": found[-1]["text"], **times}


def write(system: System, place: Place, model: str, again: bool) -> None:
    """Let a peer write what it loads, unless it has and need not do so again; ours is of this very commit.

    Raises:
        EndedError: it cannot.
    """
    mark = place.folder / f"{system.name.replace(' ', '-')}.written"
    if mark.is_file() and not again and system.peer != OURS:
        return
    words = place.words("write", system, model, 0)
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EndedError(" ".join(done.stderr.strip().splitlines()[-1:]))
    mark.touch()
