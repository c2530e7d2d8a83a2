"""Speech in, text out: what Triton's Python backend runs for a model that `export-triton` has written.

Each request has a thread, up to `max_batch` at once, which share decode steps; `max_queue` more wait. Pieces
of text are sent as they are found, unless the answer is asked for whole (`STREAM` false).
"""

from __future__ import annotations

import base64
import binascii
import json
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb  # of the server

from fastadasp.profiles.errors import AudioError, QueueFullError, RequestCancelled, RequestError
from fastadasp.runtime import Cancellation, SpeechLM

POLL = 0.05  # seconds between two looks at whether clients have gone
CODES = (
    (RequestCancelled, "CANCELLED"),
    (QueueFullError, "UNAVAILABLE"),
    (AudioError, "INVALID_ARG"),
    (RequestError, "INVALID_ARG"),
)
"""What is told of an error, by name, as the server adds its classes to `pb` later; others are INTERNAL."""


class TritonPythonModel:
    """The class that the backend looks for; one object an instance, each in a process of its own."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the artifact that lies beside this file; an error keeps the model from being ready."""
        parameters = json.loads(args["model_config"])["parameters"]
        options = json.loads(parameters["options"]["string_value"])
        folder = Path(args["model_repository"], args["model_version"], "artifact")
        self._model = SpeechLM.load(folder, parameters["profile"]["string_value"], **options)
        self._room = threading.BoundedSemaphore(options["max_batch"] + options["max_queue"])
        self._threads = ThreadPoolExecutor(options["max_batch"])
        self._under_way: dict[Any, Cancellation] = {}  # sender -> what its request ends with
        self._lock = threading.Lock()  # a sender may not be asked anything behind its last response
        self._closed = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def execute(self, requests: list[Any]) -> None:
        """Take requests; their answers are sent later, so that the next ones can come."""
        for request in requests:
            sender = request.get_response_sender()
            if not self._room.acquire(blocking=False):
                full = QueueFullError("as many requests wait as may (max_queue): try again later")
                _end(sender, full)
                continue
            self._under_way[sender] = cancellation = Cancellation()
            answered = self._threads.submit(self._answer, request, sender, cancellation)
            answered.add_done_callback(partial(self._ended, sender))

    def finalize(self) -> None:
        """End what is under way, and let go of the model."""
        self._closed.set()
        for cancellation in list(self._under_way.values()):
            cancellation.cancel()
        self._threads.shutdown()
        self._model.close()

    def _answer(self, request: Any, sender: Any, cancellation: Cancellation) -> None:
        """Send the text, in pieces or whole, and at its end why it ended."""
        audio, keywords = _audio(request), _keywords(request)
        if _input(request, "STREAM") in (None, True):
            stream = self._model.stream(audio, cancellation=cancellation, share_steps=True, **keywords)
            for piece in stream:
                sender.send(_response(piece))
            sender.send(_response("", stream.result.hypotheses[0].finish_reason))
            return
        result = self._model.submit(audio, cancellation=cancellation, **keywords).result()
        sender.send(_response(result.text, result.hypotheses[0].finish_reason))

    def _ended(self, sender: Any, answered: Future[None]) -> None:
        with self._lock:
            del self._under_way[sender]
        self._room.release()
        _end(sender, answered.exception())

    def _watch(self) -> None:
        """Cancel the requests whose clients have gone, within a step."""
        while not self._closed.is_set():
            for sender, cancellation in list(self._under_way.items()):
                with suppress(Exception), self._lock:  # of one sender: the others are still looked at
                    if sender in self._under_way and sender.is_cancelled():
                        cancellation.cancel()
            time.sleep(POLL)


def _input(request: Any, name: str) -> Any:
    """The value of an input; None where it is left out."""
    tensor = pb.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy().reshape(-1)[0]


def _audio(request: Any) -> bytes:
    """The bytes of a file of audio: as they are, or in Base64, which JSON can carry."""
    audio, text = _input(request, "AUDIO"), _input(request, "AUDIO_BASE64")
    if (audio is None) == (text is None):
        raise AudioError("give one of AUDIO, the bytes of a file, and AUDIO_BASE64, the same in Base64")
    if audio is not None:
        return bytes(audio)
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise AudioError(f"AUDIO_BASE64 is no Base64: {error}") from None


def _keywords(request: Any) -> dict[str, Any]:
    """What else a request says, as the methods of `SpeechLM` take it; what is left out has their default."""
    texts = {name: _input(request, name.upper()) for name in ("prompt", "system", "profile")}
    counts = {name: _input(request, name.upper()) for name in ("num_beams", "max_new_tokens")}
    found: dict[str, Any] = {name: _text(name, text) for name, text in texts.items() if text is not None}
    return found | {name: int(count) for name, count in counts.items() if count is not None}


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise RequestError(f"{name.upper()} is no UTF-8: {error}") from None


def _response(text: str, finish_reason: str = "") -> Any:
    """A piece of text; the last one says why it ended: "stop", or "length" for one cut by MAX_NEW_TOKENS."""
    values = {"TEXT": text, "FINISH_REASON": finish_reason}
    return pb.InferenceResponse(
        [pb.Tensor(name, np.array([value.encode()], dtype=object)) for name, value in values.items()]
    )


def _end(sender: Any, error: BaseException | None) -> None:
    """Tell that there is no more, and why if that is an error."""
    if error is not None:
        code = next((code for kind, code in CODES if isinstance(error, kind)), "INTERNAL")
        fault = pb.TritonError(" ".join(str(error).split()), getattr(pb.TritonError, code))
        sender.send(pb.InferenceResponse(error=fault))
    sender.send(flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
