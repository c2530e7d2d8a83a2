"""Faults as OpenAI's clients read them: a status and `{"error": {message, type, param, code}}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from ...profiles.errors import (
    AudioError,
    DeadlineExceeded,
    FastAdaSPError,
    LongAudioError,
    QueueFullError,
    RequestError,
    WorkerError,
    WorkerHungError,
)
from ...runtime.choice.target import AUTO

NO_RETRY = {"x-should-retry": "false"}  # OpenAI's clients send a request again after 408, 409, 429 and 5xx
CODES = {404: "not_found", 405: "method_not_allowed"}
WORDS = {
    404: "nothing is served at this path; /v1/models is one that is",
    405: "this path does not take this method",
}
TEXTS = ("prompt", "system")
FIELDS = (*TEXTS, "num_beams", "length_penalty", "max_new_tokens")
"""Those that messages of the runtime begin with, by the same name as in a request."""


class ApiError(Exception):
    """A fault with its status."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.headers = status, message, param, code, headers

    @property
    def body(self) -> dict[str, Any]:
        """As JSON."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        told = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": told}

    def response(self) -> JSONResponse:
        """What the client gets."""
        return JSONResponse(self.body, self.status, headers=self.headers)


def refused(param: str, message: str) -> ApiError:
    """A value that is known, and not honoured here."""
    return ApiError(400, f"{param}: {message}", param=param, code="unsupported_value")


def invalid(param: str, message: str) -> ApiError:
    """A value that is none."""
    return ApiError(400, f"{param}: {message}", param=param, code="invalid_value")


def overloaded(message: str) -> ApiError:
    """Too much at once: the same request may be met later."""
    return ApiError(503, message, code="overloaded", headers={"retry-after": "1"})


def api_error(error: FastAdaSPError | HTTPException, param: str | None = None) -> ApiError:
    """What the faults of a request are to its client.

    Args:
        error: what was raised.
        param: the field that audio and texts came in, where they have none of their own.
    """
    text = " ".join(str(error).splitlines())
    match error:
        case HTTPException():
            status = error.status_code
            words, code = WORDS.get(status, error.detail), CODES.get(status)
            return ApiError(status, words, code=code, headers=error.headers)
        case QueueFullError():
            return overloaded(text)
        case DeadlineExceeded():
            return ApiError(504, text, code="deadline_exceeded", headers=NO_RETRY)
        case AudioError():
            code = "audio_too_long" if isinstance(error, LongAudioError) else "invalid_audio"
            return ApiError(400, text, param=param or "file", code=code)
        case RequestError():
            named = next((name for name in FIELDS if text.startswith(name)), None)
            named = "model" if text.startswith(f"profile {AUTO}") else named
            return ApiError(
                400, text, param=param if named in TEXTS and param else named, code="invalid_value"
            )
        case WorkerError():
            code = "worker_hung" if isinstance(error, WorkerHungError) else "worker_died"
            return ApiError(500, text, code=code, headers=NO_RETRY)
    return ApiError(500, "the server has failed; its log says where", code="internal_error", headers=NO_RETRY)
