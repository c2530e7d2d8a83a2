"""The application: what is answered at which path."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from ...profiles.errors import FastAdaSPError, LongAudioError
from ..metrics import CONTENT_TYPE, Metrics
from ..page.routes import page_routes
from ..pool.messages import Answer, Began, Ended, SegmentFound, TimedText
from ..pool.request_pool import RequestPool
from ..pool.ticket import Ticket
from .chat import read_chat
from .errors import ApiError, api_error
from .events import Events, EventStream, chat_events, chosen, completion, transcript_events
from .fields import no_model
from .formats import transcript
from .guard import CHAT, CLIENT_GONE, Guard, Limits
from .served import Served
from .transcription import Task, read_form

PROFILE, REASON = "x-fastadasp-profile", "x-fastadasp-reason"  # headers of answers
Found = TypeVar("Found")


@dataclass(frozen=True)
class Heard:
    """An answer with all that led to it."""

    began: Began
    segments: tuple[TimedText, ...]
    answer: Answer


class Api:
    """The endpoints."""

    def __init__(self, pool: RequestPool, served: Served, metrics: Metrics) -> None:
        self._pool, self._served, self._metrics = pool, served, metrics

    @property
    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("/v1/audio/transcriptions", self.transcribe, methods=["POST"]),
            Route("/v1/audio/translations", self.translate, methods=["POST"]),
            Route(CHAT, self.chat, methods=["POST"]),
            Route("/v1/models", self.models),
            Route("/v1/models/{model:path}", self.model),
            Route("/health", self.health),
            Route("/ready", self.ready),
            Route("/metrics", self.metrics),
        ]

    async def transcribe(self, request: Request) -> Response:
        """What is said."""
        return await self._transcript(request, "transcribe")

    async def translate(self, request: Request) -> Response:
        """The same in another language."""
        return await self._transcript(request, "translate")

    async def _transcript(self, request: Request, task: Task) -> Response:
        form = await read_form(request, task, self._served)
        ticket = self._pool.submit(form.asked, form.audio)
        if form.stream:
            return await self._stream(request, ticket, transcript_events(ticket.events()))
        heard = await self._heard(request, ticket)
        return transcript(heard.answer, heard.segments, form, headers_of(heard.began))

    async def chat(self, request: Request) -> Response:
        """An answer to a question about audio."""
        chat, audio = await read_chat(request, self._served)
        ticket = self._pool.submit(chat.asked, audio)
        del audio  # it is the pool's, which lets go of it once a worker has it
        try:
            if chat.stream:
                events = chat_events(ticket.events(), chat.model, chat.include_usage)
                return await self._stream(request, ticket, events)
            heard = await self._heard(request, ticket)
        except LongAudioError as error:
            longer = f"{error}; a chat hears its audio whole, /v1/audio/transcriptions takes longer audio"
            raise api_error(LongAudioError(longer), "messages") from error
        except FastAdaSPError as error:
            raise api_error(error, "messages") from error
        content = {**completion(chat.model, heard.answer), **chosen(heard.began)}
        return JSONResponse(content, headers=headers_of(heard.began))

    async def models(self, request: Request) -> Response:
        """One model a profile."""
        return JSONResponse(
            {"object": "list", "data": [self._model(name) for name in self._served.models.ids]}
        )

    async def model(self, request: Request) -> Response:
        """One of them."""
        name = request.path_params["model"]
        models = self._served.models
        if name not in (models.name, *models.ids):
            raise no_model(models, name)
        return JSONResponse(self._model(name))

    async def health(self, request: Request) -> Response:
        """That the server lives."""
        return JSONResponse({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """Whether a worker can take a request."""
        ready = self._pool.is_ready
        return JSONResponse({"status": "ready" if ready else "no worker is ready"}, 200 if ready else 503)

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        return Response(self._metrics.text(), media_type=CONTENT_TYPE)

    def _model(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._served.created, "owned_by": "fastadasp"}

    async def _heard(self, request: Request, ticket: Ticket) -> Heard:
        try:
            return await unless_gone(request, _all_of(ticket))
        finally:
            self._pool.leave(ticket)

    async def _stream(self, request: Request, ticket: Ticket, events: Events) -> Response:
        try:
            first = await unless_gone(request, anext(events))
        except BaseException:
            self._pool.leave(ticket)
            raise
        assert ticket.began is not None, "it comes before everything else"
        return EventStream(first, events, headers_of(ticket.began), lambda: self._pool.leave(ticket))


def build_app(api: Api, limits: Limits, metrics: Metrics) -> ASGIApp:
    """The whole application."""
    handlers: dict[Any, Any] = {
        ApiError: _answer_fault,
        HTTPException: _answer_fault,
        FastAdaSPError: _answer_fault,
        ClientDisconnect: _answer_nobody,
        Exception: _answer_failure,
    }
    routes = [*page_routes(), *api.routes]
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False  # to an address of http, though the client came by https of a proxy
    return Guard(app, limits, metrics)


def headers_of(began: Began) -> dict[str, str]:
    """Which profile answers, and why; what a header cannot hold is escaped."""
    told = {PROFILE: began.profile, REASON: began.reason}
    return {
        name: " ".join(text.split()).encode("ascii", "backslashreplace").decode("ascii")
        for name, text in told.items()
        if text is not None
    }


async def unless_gone(request: Request, awaitable: Awaitable[Found]) -> Found:
    """What is awaited, unless the client goes before.

    Raises:
        ClientDisconnect: it has.
    """
    found, gone = asyncio.ensure_future(awaitable), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({found, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not found.done():
            raise ClientDisconnect
        return found.result()
    finally:
        for task in (found, gone):
            task.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration, FastAdaSPError):
                await task


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _all_of(ticket: Ticket) -> Heard:
    segments: list[TimedText] = []
    async for event in ticket.events():
        match event:
            case SegmentFound(_, segment):
                segments.append(segment)
            case Ended(_, answer):
                assert ticket.began is not None, "it comes before everything else"
                return Heard(ticket.began, tuple(segments), answer)
    raise AssertionError("events end with the answer")


async def _answer_fault(request: Request, error: Exception) -> Response:
    if isinstance(error, ApiError):
        return error.response()
    assert isinstance(error, HTTPException | FastAdaSPError)
    return api_error(error).response()


async def _answer_nobody(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_GONE)


async def _answer_failure(request: Request, error: Exception) -> Response:
    """A fault of the program; the log has it."""
    return ApiError(500, "the server has failed; its log says where", code="internal_error").response()
