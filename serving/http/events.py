"""Server-sent events: answers whose text is sent as it is found."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from ...profiles.errors import FastAdaSPError
from ..pool.messages import Answer, Began, Ended, Event, Piece, SegmentFound
from .errors import api_error
from .formats import segment_event, tokens_used

Events = AsyncGenerator[dict[str, Any], None]
NOT_KEPT = {"cache-control": "no-cache", "x-accel-buffering": "no"}  # nginx would gather the events


async def transcript_events(events: AsyncIterator[Event]) -> Events:
    """Text, segments where there are any, and the whole at the end."""
    number = 0
    async for event in events:
        match event:
            case Piece(_, text) if text:
                yield {"type": "transcript.text.delta", "delta": text}
            case SegmentFound(_, segment):
                yield segment_event(number, segment)
                number += 1
            case Ended(_, answer):
                done = {"type": "transcript.text.done", "text": answer.text, "usage": tokens_used(answer)}
                yield done


def new_completion(model: str, *, chunk: bool = False) -> dict[str, Any]:
    """The fields that all parts of one answer have."""
    kind = "chat.completion.chunk" if chunk else "chat.completion"
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}


def completion(model: str, answer: Answer) -> dict[str, Any]:
    """A whole answer of a chat."""
    message = {"role": "assistant", "content": answer.text, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason, "logprobs": None}
    return {**new_completion(model), "choices": [choice], "usage": chat_usage(answer)}


def chosen(began: Began) -> dict[str, Any]:
    """What an answer of a chat says of its profile, where that was chosen: a field of our own."""
    if began.reason is None:
        return {}
    return {"fastadasp": {"profile": began.profile, "reason": began.reason}}


async def chat_events(events: AsyncIterator[Event], model: str, include_usage: bool) -> Events:
    """The answer of a chat in pieces."""
    base = new_completion(model, chunk=True)
    usage = {"usage": None} if include_usage else {}

    def part(delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return {**base, "choices": [choice], **usage}

    async for event in events:
        match event:
            case Began():
                yield {**part({"role": "assistant", "content": ""}), **chosen(event)}
            case Piece(_, text) if text:
                yield part({"content": text})
            case Ended(_, answer):
                yield part({}, answer.finish_reason)
                if include_usage:
                    yield {**base, "choices": [], "usage": chat_usage(answer)}


def chat_usage(answer: Answer) -> dict[str, int]:
    """Tokens, by the names that a chat has for them."""
    used = tokens_used(answer)
    names = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}
    return {**{name: used[field] for name, field in names.items()}, "total_tokens": used["total_tokens"]}


class EventStream(StreamingResponse):
    """A response of events; `close` is called at its end, also where its client has gone."""

    def __init__(
        self, first: dict[str, Any], others: Events, headers: dict[str, str], close: Callable[[], None]
    ) -> None:
        """With the first event, which was waited for, so that faults of the request kept their status."""
        super().__init__(
            _lines(first, others), media_type="text/event-stream", headers={**NOT_KEPT, **headers}
        )
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._close()


async def _lines(first: dict[str, Any], others: Events) -> AsyncGenerator[str, None]:
    try:
        yield _line(first)
        async for event in others:
            yield _line(event)
    except FastAdaSPError as error:
        yield _line(api_error(error).body)
    yield "data: [DONE]\n\n"


def _line(event: dict[str, Any]) -> str:
    """An event of ASCII alone: some clients take U+2028 and the like in a text for the end of a line."""
    return f"data: {json.dumps(event, allow_nan=False)}\n\n"
