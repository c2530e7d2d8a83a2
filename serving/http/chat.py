"""`/v1/chat/completions` about audio: from JSON to what the workers are asked."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from ...profiles.faults import is_unicode, shown
from ...profiles.json_text import JsonError, read_object
from ..pool.messages import Asked
from .errors import ApiError, invalid, refused
from .fields import (
    BUDGETS,
    SEARCH,
    auto_of,
    flag_of,
    profile_of,
    refuse_temperature,
    refuse_unknown,
    search_of,
    text_of,
)
from .guard import too_large
from .served import Served

LENGTHS = {"max_tokens": "max_new_tokens", "max_completion_tokens": "max_new_tokens"}
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "top_p": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (False, True),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "stop": ([],),
    "modalities": (["text"],),
    "response_format": ({"type": "text"},),
    "store": (False,),
    "service_tier": ("auto", "default"),
}
"""Field -> values that ask for nothing; all others are refused."""
USED = ("model", "messages", "stream", "stream_options", "temperature", *LENGTHS, *SEARCH, *BUDGETS)
WITHOUT_EFFECT = ("user", "metadata", "safety_identifier", "seed")  # on any answer: nothing is drawn
KNOWN = (*USED, *NEUTRAL, *WITHOUT_EFFECT)
NOT_HONOURED = {
    "tools": "the model calls no tools",
    "functions": "the model calls no functions",
    "n": "there is one answer",
    "stop": "an answer ends with the model's own end token",
    "response_format": "answers are plain text",
    "modalities": "answers are text",
    "logprobs": "log-probabilities of tokens are not given",
    "audio": "answers are text",
}
IN_A_THREAD = 1 << 20  # bytes of JSON, which would hold up other requests
BEGIN_VALUES, MOST_VALUES = (b",", b"[", b"{"), 100_000  # that JSON has: some take thirty times their bytes
PARTS = ("text", "input_audio")
IN_A_PART: Mapping[str, tuple[str, ...]] = {
    **{kind: ("type", kind) for kind in PARTS},
    "audio": ("data", "format"),
}


@dataclass(frozen=True)
class Chat:
    """A request that was read, without its audio, which nobody is to hold until the answer."""

    asked: Asked
    model: str  # as the client wrote it
    stream: bool
    include_usage: bool


async def read_chat(request: Request, served: Served) -> tuple[Chat, bytes]:
    """Receive a request and check it, all but the audio, which is the second that is returned.

    Raises:
        ApiError: with the field that is wrong.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        text = f"content-type {kind[:80]!r}: send application/json"
        raise ApiError(415, text, param="content-type", code="unsupported_media_type")
    body = b"".join([part async for part in request.stream()])  # which `request.body` would keep
    if len(body) > IN_A_THREAD:
        return await asyncio.to_thread(_chat, body, served)
    return _chat(body, served)


def _chat(body: bytes, served: Served) -> tuple[Chat, bytes]:
    if sum(map(body.count, BEGIN_VALUES)) > MOST_VALUES:
        raise ApiError(400, f"the body holds more than {MOST_VALUES} values: send less", code="invalid_json")
    try:
        found = read_object(body)
    except JsonError as error:
        raise ApiError(400, f"the body {error}", code="invalid_json") from None
    given = {name: value for name, value in found.items() if value is not None}
    _refuse(given)
    stream = flag_of("stream", given.get("stream"))
    system, prompt, audio = _messages(given.get("messages"))
    if len(audio) > served.max_upload_bytes:
        raise too_large(served.max_upload_bytes, "audio", "messages")
    profile = profile_of(served.models, given.get("model"))
    asked = Asked(
        profile=profile,
        auto=auto_of(served.models, profile, given),
        prompt=served.prompts.for_chat(prompt),
        system=system,
        search=search_of(given, LENGTHS),
        form="whole",
        in_pieces=stream,
    )
    return Chat(asked, str(given["model"]), stream, _include_usage(given, stream)), audio


def _refuse(given: Mapping[str, Any]) -> None:
    """Refuse what is not known or not honoured."""
    for name in given:
        if name in NOT_HONOURED and name not in NEUTRAL:
            raise refused(name, NOT_HONOURED[name])
    refuse_unknown(given, KNOWN)
    refuse_temperature(given.get("temperature"))
    for name, neutral in NEUTRAL.items():
        if name in given and not any(_same(given[name], each) for each in neutral):
            why = NOT_HONOURED.get(name, "it is not honoured here")
            raise refused(name, f"{why}; leave it out")


def _same(one: object, other: object) -> bool:
    """Equal, where true is no number."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _include_usage(given: Mapping[str, Any], stream: bool) -> bool:
    options = given.get("stream_options")
    if options is None:
        return False
    if not stream:
        raise refused("stream_options", "it is of an answer with stream true")
    if not isinstance(options, dict):
        raise invalid("stream_options", "give an object")
    for name, value in options.items():
        if name == "include_obfuscation" and value is False:
            continue
        if name != "include_usage":
            raise refused("stream_options", f"{shown(name)} is not honoured here")
    return flag_of("stream_options", options.get("include_usage"))


def _messages(messages: object) -> tuple[str | None, str | None, bytes]:
    """System text, prompt and audio of a conversation: of one question about one recording."""
    if not isinstance(messages, list) or not messages:
        raise invalid("messages", "give a list with one message of the role user, with an input_audio part")
    system: list[str] = []
    questions: list[Sequence[Mapping[str, Any]]] = []
    for message in messages:
        role, parts = _message(message)
        if role == "user":
            questions.append(parts)
        elif role in ("system", "developer"):
            if any(part["type"] != "text" for part in parts):
                raise refused(
                    "messages", f"role {shown(role)}: audio is of the question; send text alone here"
                )
            system += _texts(parts)
        else:
            raise refused("messages", f"role {shown(role)}: each request is one question; send it alone")
    if len(questions) != 1:
        raise refused("messages", f"{len(questions)} messages of the role user: each request is one question")
    return "\n".join(system) or None, "\n".join(_texts(questions[0])) or None, _audio(questions[0])


def _message(message: object) -> tuple[object, Sequence[Mapping[str, Any]]]:
    """Role and parts."""
    if not isinstance(message, dict):
        raise invalid("messages", f"{shown(message)} is no object")
    refuse = [
        name for name in message if name not in ("role", "content", "name") and message[name] is not None
    ]
    if refuse:
        raise refused("messages", f"{shown(refuse[0])} of a message is not honoured here")
    content = message.get("content")
    if isinstance(content, str):
        return message.get("role"), [{"type": "text", "text": content}]
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise invalid("messages", "content: give a text, or a list of parts")
    for part in content:
        if part.get("type") not in PARTS:
            kind = shown(part.get("type"))
            raise refused("messages", f"a part of the type {kind}: parts are text and input_audio")
        _refuse_others(part, IN_A_PART[part["type"]])
    return message.get("role"), content


def _texts(parts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for part in parts:
        if part.get("type") == "text":
            text = text_of("messages", part.get("text"))
            if text is None:
                raise invalid("messages", "a part of the type text has no text")
            yield text


def _audio(parts: Sequence[Mapping[str, Any]]) -> bytes:
    found = [part.get("input_audio") for part in parts if part.get("type") == "input_audio"]
    if len(found) != 1:
        raise refused("messages", f"{len(found)} parts of the type input_audio: give one")
    audio = found[0] if isinstance(found[0], dict) else {}
    data = audio.get("data")
    if not isinstance(data, str) or not is_unicode(data):
        raise invalid("messages", "input_audio: give an object with data, the audio as base64")
    _refuse_others(audio, IN_A_PART["audio"])
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise invalid(
            "messages", "input_audio.data is no base64: send the bytes of the file in it alone"
        ) from None


def _refuse_others(found: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuse fields of a part that are not known, but for those that say nothing."""
    for name, value in found.items():
        if name not in known and value is not None:
            raise refused("messages", f"{shown(name)} of a part is not honoured here; leave it out")
