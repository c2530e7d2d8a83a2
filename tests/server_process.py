"""A real server in a process of its own, and what tests ask of it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

import psutil
from openai import OpenAI

PATIENCE = 60.0  # seconds for what takes milliseconds
NAME = "demo"
COMMAND = ("-m", "fastadasp.export")


class Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)["error"]
        return found


class ServerProcess:
    """`fastadasp-export serve`, once it is ready."""

    def __init__(self, *words: object, program: tuple[str, str] = COMMAND) -> None:
        """With the artifact and the options of the command, but for a port."""
        command = [sys.executable, "-P", *program, "serve", *map(str, words), "--port", "0"]
        self.stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.stderr, text=True)
        self.lines = list(self._until_ready())
        found = re.search(r"http://([\d.]+):(\d+)", "\n".join(self.lines))
        assert found, "\n".join((*self.lines, self.log))
        self.host, self.port = found[1], int(found[2])

    def _until_ready(self) -> Iterator[str]:
        assert self.process.stdout
        for line in self.process.stdout:
            yield line.rstrip()
            if line.startswith("ready"):
                return

    @property
    def log(self) -> str:
        """What it has said on stderr; its place in that file stays as it is, for it goes on there."""
        file = self.stderr.fileno()
        return os.pread(file, os.fstat(file).st_size, 0).decode()

    @contextmanager
    def client(self, key: str = "none", **options: Any) -> Iterator[OpenAI]:
        """OpenAI's own, which here sends nothing twice unless a test asks for it."""
        base = f"http://{self.host}:{self.port}/v1"
        with OpenAI(
            base_url=base, api_key=key, **{"max_retries": 0, "timeout": PATIENCE, **options}
        ) as client:
            yield client

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """A request as it is given."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, names, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, headers=headers)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over all labels that are not given."""
        lines = self.get("/metrics").body.decode().splitlines()
        found = [line for line in lines if re.match(rf"fastadasp_{name}(\{{| )", line)]
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(float(line.split()[-1]) for line in found if all(each in line for each in wanted))

    def wait_for(self, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < end, self.get("/metrics").body.decode()
            time.sleep(0.01)

    def wait_for_metric(self, name: str, value: float, **labels: str) -> None:
        self.wait_for(lambda: self.metric(name, **labels) == value)

    @property
    def workers(self) -> list[psutil.Process]:
        """Those that answer; beside them Python keeps a process that minds what they share."""
        found = psutil.Process(self.process.pid).children()
        return [each for each in found if any("spawn_main" in word for word in each.cmdline())]

    @contextmanager
    def held(self) -> Iterator[list[psutil.Process]]:
        """Workers that stand still until the end of the block."""
        workers = self.workers
        for worker in workers:
            worker.suspend()
        try:
            yield workers
        finally:
            for worker in workers:
                with suppress(psutil.NoSuchProcess):
                    worker.resume()

    def end(self, number: int = signal.SIGTERM) -> int:
        """Tell it to end; its exit status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait until it has ended."""
        status = self.process.wait(PATIENCE)
        assert self.process.stdout
        self.lines += self.process.stdout.read().splitlines()
        self.process.stdout.close()
        return status

    def close(self) -> None:
        """End it if it still runs, with all of its processes."""
        if self.process.poll() is None:
            family = psutil.Process(self.process.pid).children(recursive=True)
            self.process.kill()
            for each in family:
                with suppress(psutil.NoSuchProcess):
                    os.kill(each.pid, signal.SIGKILL)
        assert self.process.stdout
        if not self.process.stdout.closed:
            self.wait()
        self.stderr.close()


@contextmanager
def serving(
    artifact: Path, *options: object, prompt: str | None = "<asr>", program: tuple[str, str] = COMMAND
) -> Iterator[ServerProcess]:
    """A server, which is not there any more at the end of the block."""
    asked = () if prompt is None else ("--prompt", prompt)
    server = ServerProcess(artifact, "--name", NAME, *asked, *options, program=program)
    try:
        yield server
    finally:
        server.close()


def form(fields: Mapping[str, str], audio: bytes | None) -> tuple[bytes, dict[str, str]]:
    """A body of multipart/form-data and its headers."""
    parts = [
        f'--B\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    if audio is not None:
        head = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        parts.append(head + audio + b"\r\n")
    body = b"".join((*parts, b"--B--\r\n"))
    return body, {"content-type": "multipart/form-data; boundary=B"}
