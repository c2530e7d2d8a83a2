"""Many requests and few workers: queue, deadlines, clients that go, workers that die, the end of a server."""

from __future__ import annotations

import asyncio
import errno
import json
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from openai import APIStatusError, OpenAI

from fastadasp.evaluation.answers.workers import Job
from fastadasp.profiles.errors import DeadlineExceeded, FastAdaSPError, RequestCancelled, WorkerError
from fastadasp.runtime import SearchOptions
from fastadasp.runtime.artifact.artifact import open_artifact
from fastadasp.runtime.runtime_options import RuntimeOptions
from fastadasp.serving.metrics import Metrics
from fastadasp.serving.models import Models
from fastadasp.serving.pool import link as link_module
from fastadasp.serving.pool import pool as pool_module
from fastadasp.serving.pool.answering import AudioLimits
from fastadasp.serving.pool.link import Link
from fastadasp.serving.pool.messages import Answer, Asked, Ended, Facts, Failed, FromWorker, Ready
from fastadasp.serving.pool.pool import Pool
from fastadasp.serving.pool.ticket import Ticket
from fastadasp.serving.pool.worker import Plan
from server_process import NAME, PATIENCE, ServerProcess, form, serving

from .conftest import CLIP, SAID

TRANSCRIBE = "/v1/audio/transcriptions"
FILE = ("a.flac", CLIP.read_bytes())


@contextmanager
def clients(server: ServerProcess) -> Iterator[tuple[OpenAI, ThreadPoolExecutor]]:
    with server.client() as client, ThreadPoolExecutor(16) as threads:
        yield client, threads


def text_of(client: OpenAI) -> str:
    return client.audio.transcriptions.create(file=FILE, model=NAME).text


def streamed_text_of(client: OpenAI) -> str:
    events = client.audio.transcriptions.create(file=FILE, model=NAME, stream=True)
    return "".join(event.delta for event in events if event.type == "transcript.text.delta")


def fault_of(future: Future[str]) -> APIStatusError:
    with pytest.raises(APIStatusError) as caught:
        future.result()
    return caught.value


@pytest.fixture(scope="module")
def narrow(demo_artifact: Path) -> Iterator[ServerProcess]:
    """One worker with one request at once, beside which one may wait."""
    options = ("--workers", 1, "--max-batch", 1, "--max-queue", 1)
    with serving(demo_artifact, *options) as server:
        yield server
        assert "Traceback" not in server.log


def test_beyond_the_queue_a_request_is_told_to_come_again(narrow: ServerProcess) -> None:
    with clients(narrow) as (client, threads):
        with narrow.held():
            first = threads.submit(text_of, client)
            narrow.wait_for_metric("running_requests", 1)
            second = threads.submit(text_of, client)
            narrow.wait_for_metric("queue_requests", 1)
            fault = fault_of(threads.submit(text_of, client))
            assert (fault.status_code, fault.code) == (503, "overloaded")
            assert int(fault.response.headers["retry-after"]) >= 1
        assert first.result() == second.result() == SAID


def test_a_client_that_comes_again_gets_its_answer(narrow: ServerProcess) -> None:
    with clients(narrow) as (client, threads), narrow.client(max_retries=8) as patient:
        with narrow.held():
            others = [threads.submit(text_of, client)]
            narrow.wait_for_metric("running_requests", 1)
            others.append(threads.submit(text_of, client))
            narrow.wait_for_metric("queue_requests", 1)
            again = threads.submit(text_of, patient)
            narrow.wait_for(lambda: narrow.metric("requests_total", status="503") >= 2)
        assert [each.result() for each in (*others, again)] == [SAID] * 3


@pytest.mark.parametrize("streamed", [False, True])
def test_a_client_that_goes_ends_its_request(narrow: ServerProcess, long_clip: bytes, streamed: bool) -> None:
    """Long before its answer: seconds of the audio would be counted with that."""
    heard, gone = narrow.metric("audio_seconds_total"), narrow.metric("cancelled_total")
    body, headers = form({"model": NAME, **({"stream": "true"} if streamed else {})}, long_clip)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {TRANSCRIBE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{lines}\r\n"
    with narrow.held() as (worker,), socket.create_connection((narrow.host, narrow.port)) as connection:
        connection.sendall(head.encode() + body)
        narrow.wait_for_metric("running_requests", 1)
        if streamed:  # its head comes with the first text
            worker.resume()
            assert b"200 OK" in connection.recv(1 << 12)
    narrow.wait_for_metric("running_requests", 0)
    assert narrow.metric("audio_seconds_total") == heard
    assert narrow.metric("cancelled_total") == gone + 1
    with narrow.client() as client:
        assert text_of(client) == SAID


def test_a_client_that_goes_while_it_waits_leaves_the_queue(narrow: ServerProcess) -> None:
    body, headers = form({"model": NAME}, FILE[1])
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {TRANSCRIBE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{lines}\r\n"
    with clients(narrow) as (client, threads), narrow.held():
        first = threads.submit(text_of, client)
        narrow.wait_for_metric("running_requests", 1)
        with socket.create_connection((narrow.host, narrow.port)) as connection:
            connection.sendall(head.encode() + body)
            narrow.wait_for_metric("queue_requests", 1)
        narrow.wait_for_metric("queue_requests", 0)
        for worker in narrow.workers:
            worker.resume()
        assert first.result() == SAID


def test_a_request_has_a_deadline_where_it_waits_and_where_it_runs(
    demo_artifact: Path, long_clip: bytes
) -> None:
    options = ("--workers", 1, "--max-batch", 1, "--deadline", 0.5)
    with serving(demo_artifact, *options) as server, clients(server) as (client, threads):
        with server.held():
            running = threads.submit(text_of, client)
            server.wait_for_metric("running_requests", 1)
            waiting = threads.submit(text_of, client)
            fault = fault_of(waiting)
            assert (fault.status_code, fault.code) == (504, "deadline_exceeded")
            assert "while it waited for a worker" in fault.message
            assert server.metric("failed_total", error="DeadlineExceeded") == 1
            assert fault.response.headers["x-should-retry"] == "false"
        fault = fault_of(running)
        assert fault.status_code == 504
        assert "the deadline of 0.5 s passed" in fault.message
        server.wait_for_metric("running_requests", 0)
        assert server.metric("failed_total", error="DeadlineExceeded") == 2


def test_a_worker_that_is_killed_loses_its_own_requests_alone(demo_artifact: Path) -> None:
    with serving(demo_artifact, "--workers", 2) as server, clients(server) as (client, threads):
        with server.held() as (first, _):
            plain = [threads.submit(text_of, client) for _ in range(4)]
            server.wait_for_metric("running_requests", 4)
            streams = [threads.submit(streamed_text_of, client) for _ in range(2)]
            server.wait_for_metric("running_requests", 6)
            first.kill()
            server.wait_for_metric("worker_deaths_total", 1)
        answers = [each for each in (*plain, *streams) if each.exception() is None]
        assert [each.result() for each in answers] == [SAID] * 3
        faults = [fault_of(each) for each in (*plain, *streams) if each not in answers]
        assert [(each.status_code, each.code) for each in faults] == [(500, "worker_died")] * 3
        assert all(each.response.headers["x-should-retry"] == "false" for each in faults)
        server.wait_for_metric("workers", 2)
        assert len(server.workers) == 2
        assert first not in server.workers
        assert list(threads.map(text_of, [client] * 16)) == [SAID] * 16
        assert server.metric("running_requests") == 0
        assert server.end() == 0


def test_a_worker_that_hangs_is_replaced_and_loses_its_own_requests_alone(demo_artifact: Path) -> None:
    options = ("--workers", 2, "--hang-seconds", 6)
    with serving(demo_artifact, *options) as server, clients(server) as (client, threads):
        with server.held() as (hung, other):
            asked = [threads.submit(call, client) for call in (text_of, streamed_text_of) for _ in range(2)]
            server.wait_for_metric("running_requests", 4)
            other.resume()
            server.wait_for_metric("worker_hangs_total", 1)
        answers = [each for each in asked if each.exception() is None]
        assert [each.result() for each in answers] == [SAID] * 2
        faults = [fault_of(each) for each in asked if each not in answers]
        assert [(each.status_code, each.code) for each in faults] == [(500, "worker_hung")] * 2
        assert all("has said nothing for 6 s" in each.message for each in faults)
        assert server.metric("failed_total", error="WorkerHungError") == 2
        server.wait_for_metric("workers", 2)
        assert hung not in server.workers
        assert list(threads.map(text_of, [client] * 4)) == [SAID] * 4
        assert server.metric("worker_deaths_total") == 1
        assert "has said nothing for 6 s and was ended, with 2 requests" in server.log
        assert server.end() == 0


def test_a_server_that_is_told_to_end_answers_what_is_under_way(demo_artifact: Path) -> None:
    with serving(demo_artifact, "--workers", 2) as server, clients(server) as (client, threads):
        with server.held():
            asked = [threads.submit(call, client) for call in (text_of, streamed_text_of) for _ in range(2)]
            server.wait_for_metric("running_requests", 4)
            workers = server.workers
            server.process.send_signal(signal.SIGTERM)
            for worker in workers:  # a manager of services tells all processes
                worker.send_signal(signal.SIGTERM)
            server.wait_for(lambda: not accepts(server))
        assert [each.result() for each in asked] == [SAID] * 4
        assert server.wait() == 0
        assert server.lines[-1] == "ended"
        assert not any(psutil.pid_exists(worker.pid) for worker in workers)


def accepts(server: ServerProcess) -> bool:
    try:
        socket.create_connection((server.host, server.port)).close()
    except ConnectionError:
        return False
    return True


def test_a_server_ends_though_requests_do_not(demo_artifact: Path) -> None:
    options = ("--workers", 1, "--drain-seconds", 0.1)
    with serving(demo_artifact, *options) as server, clients(server) as (client, threads):
        with server.held():
            asked = threads.submit(text_of, client)
            server.wait_for_metric("running_requests", 1)
            assert server.end(signal.SIGINT) == 0
        assert asked.exception() is not None


def test_a_server_that_is_killed_takes_its_workers_along(demo_artifact: Path) -> None:
    with serving(demo_artifact, "--workers", 2) as server:
        workers = server.workers
        server.process.kill()
        _, alive = psutil.wait_procs(workers, timeout=30)
        assert not alive


def test_without_a_worker_the_server_lives_and_is_not_ready(demo_artifact: Path, tmp_path: Path) -> None:
    """Its artifact has gone, so no other worker can be started."""
    import shutil

    artifact = shutil.copytree(demo_artifact, tmp_path / "artifact")
    with serving(artifact, "--workers", 1) as server:
        shutil.move(artifact, tmp_path / "away")
        server.workers[0].kill()
        server.wait_for(lambda: server.get("/ready").status == 503)
        assert server.get("/health").status == 200
        server.wait_for(lambda: "no worker can be started now" in server.log)
        shutil.move(tmp_path / "away", artifact)
        server.wait_for(lambda: server.get("/ready").status == 200)
        with server.client() as client:
            assert text_of(client) == SAID
        assert "lack of memory" not in server.log


# Connections whose buffers take less than an answer here has; the log tells when writing pauses.
SMALL_BUFFERS = """
import logging, socket, sys
from fastadasp.export.cli import main
from fastadasp.serving.http.connection import Connection
class Small(Connection):
    def connection_made(self, transport):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        transport.set_write_buffer_limits(high=0)
        super().connection_made(transport)
    def pause_writing(self):
        print("paused", file=sys.stderr, flush=True)
        super().pause_writing()
    def resume_writing(self):
        print("resumed", file=sys.stderr, flush=True)
        super().resume_writing()
sys.modules[Connection.__module__].Connection = Small
main(sys.argv[1:])
"""


def test_a_client_that_reads_slowly_holds_up_nobody(demo_artifact: Path, long_clip: bytes) -> None:
    body, headers = form({"model": NAME, "stream": "true"}, long_clip)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {TRANSCRIBE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{lines}\r\n"
    options = ("--workers", 1, "--max-batch", 1)
    with serving(demo_artifact, *options, program=("-c", SMALL_BUFFERS)) as server, socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        slow.connect((server.host, server.port))
        slow.sendall(head.encode() + body)
        server.wait_for(lambda: "paused" in server.log)
        with server.client() as client:
            assert text_of(client) == SAID
        assert server.log.count("paused") == server.log.count("resumed") + 1
        slow.settimeout(PATIENCE)
        found = b""
        while b"[DONE]" not in found:
            part = slow.recv(1 << 16)
            assert part, found
            found += part
        assert b"transcript.text.done" in found


def test_metrics_tell_of_what_was_answered(narrow: ServerProcess) -> None:
    names = ("audio_seconds_total", "output_tokens_total", "first_text_seconds_count", "step_seconds_count")
    before = {name: narrow.metric(name, profile="sparse-30") for name in names}
    body, headers = form({"model": f"{NAME}:sparse-30"}, FILE[1])
    found = narrow.ask("POST", TRANSCRIBE, body, headers)
    seconds = json.loads(found.body)["usage"]["seconds"]
    after = {name: narrow.metric(name, profile="sparse-30") for name in names}
    assert {name: after[name] - before[name] for name in names} == pytest.approx(
        dict(zip(names, (seconds, 4, 1, 1), strict=True)), abs=1e-3
    )
    assert narrow.metric("workers") == 1


def test_paths_that_nobody_serves_make_no_labels(narrow: ServerProcess) -> None:
    for number in range(20):
        narrow.get(f"/scan/{number}")
    text = narrow.get("/metrics").body.decode()
    assert "scan" not in text


ASKED = Asked("full", None, None, SearchOptions(), "whole")
JOB = Job(Path(), "", ("full",), SearchOptions(), RuntimeOptions())
PLAN = Plan(JOB, Models("demo", ("full",), "full"), AudioLimits(60.0, None), hang_seconds=30.0)


class Stand:
    """In the place of a worker."""

    def __init__(self, wait: Callable[[], object] = bool) -> None:
        self.wait, self.has_ended = wait, False

    def dismiss(self) -> None:
        pass

    def end(self) -> None:
        self.has_ended = True


class Keeping(Link):
    """A worker that lives, and keeps what it is asked."""

    def __init__(self) -> None:
        self.tickets, self.is_ready, self.silent_looks = {}, True, 0
        self._hang_seconds, self.was_ended = PLAN.hang_seconds, False

    pid = 1

    def ask(self, ticket: Ticket) -> None:
        self.tickets[ticket.number] = ticket

    def cancel(self, ticket: Ticket) -> None:
        pass

    def abandon(self) -> None:
        self.was_ended = True


class Later:
    """In the place of an event loop: what is to be called later, and when."""

    def __init__(self) -> None:
        self.called: list[tuple[float, str]] = []

    def call_later(self, pause: float, work: Callable[..., None]) -> None:
        self.called.append((pause, work.__name__))


def test_a_worker_that_keeps_a_request_beyond_its_deadline_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool_module, "Link", lambda *_: Stand())

    async def late(seconds: float) -> tuple[bool, float, list[str]]:
        """Whether the worker was ended, what was counted, and what became of the requests."""
        metrics, link = Metrics(), Keeping()
        pool = Pool(PLAN, 1, 1, -seconds, metrics)
        pool._loop, pool._links[:] = asyncio.get_running_loop(), [link]
        tickets = [pool.submit(ASKED, b"") for _ in range(2)]
        pool._watch()
        faults = [type(ticket._events.get_nowait().error).__name__ for ticket in tickets if ticket.has_ended]  # type: ignore[union-attr]
        pool._closed = True
        return link.was_ended, metrics.hangs._value.get(), faults

    assert asyncio.run(late(PLAN.hang_seconds - 1)) == (False, 0, [])
    assert asyncio.run(late(PLAN.hang_seconds + 1)) == (True, 1, ["WorkerHungError"] * 2)


@pytest.mark.parametrize("late", [RequestCancelled("left"), DeadlineExceeded("late"), None])
def test_a_deadline_that_a_silent_worker_misses_is_counted_once(
    monkeypatch: pytest.MonkeyPatch, late: FastAdaSPError | None
) -> None:
    """Whatever the worker says of the request later."""
    monkeypatch.setattr(pool_module, "GRACE", 0.0)
    metrics, link = Metrics(), Keeping()
    answer = Answer("full", "a", "stop", 1.0, 5, 2, None)

    async def miss() -> None:
        pool = Pool(PLAN, 1, 1, 0.0, metrics)
        pool._loop, pool._links[:] = asyncio.get_running_loop(), [link]
        ticket = pool.submit(ASKED, b"")
        with pytest.raises(DeadlineExceeded, match="its worker does not answer"):
            await asyncio.wait_for(anext(ticket.events()), PATIENCE)
        pool.leave(ticket)
        pool._heard(link, Ended(ticket.number, answer) if late is None else Failed(ticket.number, late))

    asyncio.run(miss())
    counters = (metrics.failed, metrics.cancelled, metrics.audio_seconds)
    totals = [each for it in counters for each in it.collect()[0].samples if each.name.endswith("_total")]
    assert [(each.labels, each.value) for each in totals] == [({"error": "DeadlineExceeded"}, 1.0)]
    assert link.tickets == {}


def test_a_deadline_is_the_one_of_the_server_whatever_was_left_for_the_worker() -> None:
    ticket = Ticket(0, ASKED, b"", 60.0)
    ticket.tell(
        Failed(0, DeadlineExceeded("the deadline of 8.4 s passed in stage prefill; give it more time"))
    )
    wanted = "the deadline of 60 s passed while it was answered; send shorter audio, ask for fewer beams"
    with pytest.raises(DeadlineExceeded, match=f"^{wanted}"):
        asyncio.run(asyncio.wait_for(anext(ticket.events()), PATIENCE))


def test_a_worker_that_hangs_while_it_loads_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has ten times as long as another took, and the time of one that hangs."""
    monkeypatch.setattr(pool_module, "CLOCK", lambda: 102.0)
    pool, later, link = pool_of_two(), Later(), Keeping()
    pool._loop, pool._loaded = later, SimpleNamespace(done=lambda: True)  # type: ignore[assignment]
    link.begin = 100.0
    pool._begin(link, Facts("CPU", 30.0, 1))
    link.is_ready, pool._links[:] = False, [link]
    for _ in range(16):  # each stands for 3 s
        pool._watch()
    assert (pool._links, link.was_ended) == ([link], False)
    pool._watch()
    assert (pool._links, link.was_ended) == ([], True)
    assert later.called[-1] == (1.0, "_hire")


def test_a_worker_that_cannot_be_given_a_file_is_ended(
    demo_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would wait for the file, and take what comes next for it."""

    def full(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(link_module, "send_handle", full)
    job = replace(JOB, artifact=demo_artifact, digest=open_artifact(demo_artifact).manifest.digest)
    said: SimpleQueue[FromWorker | None] = SimpleQueue()
    link = Link(replace(PLAN, job=job), lambda _, message: said.put(message))
    assert isinstance(said.get(timeout=PATIENCE), Ready)
    with CLIP.open("rb") as file:
        link.ask(Ticket(0, ASKED, file, 60.0))
        while said.get(timeout=PATIENCE) is not None:
            pass
        link.end()
        assert file.closed


def pool_of_two() -> Pool:
    return Pool(PLAN, 2, 1, 60.0, Metrics())


def test_workers_that_do_not_end_are_waited_for_at_once() -> None:
    """So that the end of a server takes no longer with more of them."""
    together = threading.Barrier(2, timeout=PATIENCE)
    pool, stands = pool_of_two(), [Stand(together.wait) for _ in range(2)]
    pool._links[:] = stands  # type: ignore[assignment]
    asyncio.run(pool.close())
    assert all(stand.has_ended for stand in stands)


def test_where_no_process_can_be_started_it_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "LONGEST_PAUSE", 0.0)
    faults = [OSError(errno.EMFILE, "Too many open files")]
    started = asyncio.Event()

    def link(*_: object) -> Stand:
        if faults:
            raise faults.pop()
        started.set()
        return Stand()

    async def start() -> None:
        pool = pool_of_two()
        with pytest.raises(WorkerError, match="Too many open files"):
            await pool.start()
        await asyncio.wait_for(started.wait(), PATIENCE)
        while len(pool._links) < 2:
            await asyncio.sleep(0)
        await pool.close()

    monkeypatch.setattr(pool_module, "Link", link)
    asyncio.run(start())


def test_however_many_have_died_while_they_loaded_another_one_is_started() -> None:
    pool, later = pool_of_two(), Later()
    pool._loop = later  # type: ignore[assignment]
    for died in (0, 1, 2, 5, 6, 2000):
        pool._died_loading = died
        pool._hire_later()
    assert later.called == [(pause, "_hire") for pause in (0.0, 1.0, 3.0, 30.0, 30.0, 30.0)]


@pytest.mark.parametrize("started", [0, 1])
def test_a_worker_whose_threads_cannot_be_started_is_ended(
    monkeypatch: pytest.MonkeyPatch, started: int
) -> None:
    """As where the user may have no more of them: the process would be left, and nobody would know of it."""

    class Thread(threading.Thread):
        made = 0

        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            self.number, Thread.made = Thread.made, Thread.made + 1

        def start(self) -> None:
            if self.number == started:
                raise RuntimeError("can't start new thread")
            super().start()

    monkeypatch.setattr(link_module, "threading", SimpleNamespace(Thread=Thread))
    before = set(active_children())
    with pytest.raises(OSError, match="can't start new thread"):
        Link(PLAN, lambda *_: None)
    assert set(active_children()) <= before


def test_workers_are_watched_though_one_that_hangs_could_not_be_ended() -> None:
    class Lasting(Keeping):
        def abandon(self) -> None:
            raise RuntimeError("can't start new thread")

    pool, later, link = pool_of_two(), Later(), Lasting()
    pool._loop, pool._links[:] = later, [link]  # type: ignore[assignment]
    link.silent_looks = 100
    with pytest.raises(RuntimeError):
        pool._watch()
    assert later.called == [(PLAN.beat_seconds, "_watch")]
