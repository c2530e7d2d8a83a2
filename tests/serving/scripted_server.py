"""The page on a server whose answers are written down: what is asked for in the prompt is what happens."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from fastadasp.profiles.errors import AudioError, DeadlineExceeded, QueueFullError, WorkerError
from fastadasp.serving.http.errors import api_error
from fastadasp.serving.page.routes import page_routes

HOSTILE = "<img src=x onerror='window.ran = 1'> --> <b>bold</b>"
ANSWERS = {
    "full": ("Friday, March six.", "six five two"),
    "half": ("friday march six", "six nine two"),
    "other": (HOSTILE,),
}
BREAKS = {
    "broken": WorkerError("a worker has died: try again"),
    "late": DeadlineExceeded("the deadline of 2 s has passed"),
    "damaged": AudioError("the audio ends at 3 s of 7 s"),
    "crowded": QueueFullError("8 requests wait already"),
}
TIMES = ((0.0, 2.7), (3.0, 6.0))
SECONDS = 7.25


@dataclass
class ScriptedServer:
    """What it is to do, and what it has seen."""

    key: str | None = None
    released: threading.Event = field(default_factory=threading.Event)
    asked: list[dict[str, Any]] = field(default_factory=list)  # fields of requests
    left: list[str] = field(default_factory=list)  # models whose answer nobody waited for
    address: str = ""

    def reset(self) -> None:
        self.key = None
        self.released.clear()
        self.asked.clear()
        self.left.clear()

    def routes(self) -> list[Route]:
        transcribe = Route("/v1/audio/transcriptions", self.transcribe, methods=["POST"])
        return [*page_routes(), Route("/v1/models", self.models), transcribe]

    async def models(self, request: Request) -> Response:
        return self.refused(request) or JSONResponse({"data": [{"id": f"demo:{name}"} for name in ANSWERS]})

    async def transcribe(self, request: Request) -> Response:
        async with request.form() as form:
            fields: dict[str, Any] = {name: value for name, value in form.items() if name != "file"}
            file: Any = form["file"]
            data = await file.read()
        self.asked.append({**fields, "file": data, "name": file.filename})
        prompt, profile = fields.get("prompt"), fields["model"].split(":")[1]
        if refused := self.refused(request):
            return refused
        if prompt == "busy":
            return fault(503, "8 requests wait already", **{"Retry-After": "7"})
        if prompt == "wav" and not data.startswith(b"RIFF"):
            return fault(400, "no audio that this server reads: convert it to WAV", "file")
        stream = self.stream(profile, prompt)
        headers = {"x-fastadasp-profile": profile}
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)

    async def stream(self, profile: str, prompt: Any) -> AsyncIterator[str]:
        texts = ANSWERS[profile]
        try:
            for number, text in enumerate(texts):
                for word in text.split(" "):
                    yield event("transcript.text.delta", delta=f" {word}")
                if prompt == "cut" or prompt in BREAKS:
                    break
                start, end = TIMES[number]
                yield event("transcript.text.segment", id=number, start=start, end=end, text=text)
                while prompt == "hold" and not self.released.is_set():
                    await asyncio.sleep(0.01)
        except (asyncio.CancelledError, GeneratorExit):
            self.left.append(profile)
            raise
        if prompt in BREAKS:
            yield f"data: {json.dumps(api_error(BREAKS[prompt]).body)}\n\n"
        elif prompt != "cut":
            usage = {"type": "tokens", "total_tokens": 1}
            yield event("transcript.text.done", text=" ".join(texts), usage=usage)
            yield "data: [DONE]\n\n"

    def refused(self, request: Request) -> Response | None:
        given = request.headers.get("authorization")
        return (
            None if self.key in (None, (given or "").removeprefix("Bearer ")) else fault(401, "no such key")
        )


def event(kind: str, **content: Any) -> str:
    return f"data: {json.dumps({'type': kind, **content})}\n\n"


def fault(status: int, message: str, param: str | None = None, **headers: str) -> Response:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": None}
    return JSONResponse({"error": error}, status, headers=headers)


@contextmanager
def scripted_server() -> Iterator[ScriptedServer]:
    """Serve on a port of the system's choice."""
    scripted = ScriptedServer()
    with served(Starlette(routes=scripted.routes())) as port:
        scripted.address = f"http://127.0.0.1:{port}/"
        yield scripted


@contextmanager
def served(app: Any) -> Iterator[int]:
    """The port of an application that runs in a thread."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join()
