"""`/v1/audio/transcriptions` and `/v1/audio/translations`: from a form to what the workers are asked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from ...profiles.errors import RequestError
from ...profiles.json_text import JsonError, read_object
from ...runtime.segments.options import SegmentOptions
from ..models import Models
from ..pool.messages import Asked, Form
from .errors import ApiError, invalid, refused
from .fields import (
    BUDGETS,
    SEARCH,
    auto_of,
    flag_of,
    number_of,
    profile_of,
    refuse_temperature,
    refuse_unknown,
    search_of,
    text_of,
)
from .forms import received_form
from .guard import too_large
from .served import Served

Task = Literal["transcribe", "translate"]
FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
TIMED = ("srt", "verbose_json", "vtt")
OF_ONE_PIECE = ("srt", "vtt")
GRANULARITIES = ("timestamp_granularities[]", "timestamp_granularities")
CHUNKING = "chunking_strategy"
TYPE = f"{CHUNKING}[type]"
HOW_TO_CUT = "give auto, or an object of the type server_vad"
OF_VAD = {
    f"{CHUNKING}[threshold]": ("threshold", 1.0),
    f"{CHUNKING}[silence_duration_ms]": ("min_pause", 1e-3),
    f"{CHUNKING}[prefix_padding_ms]": ("padding", 1e-3),
}
"""Field -> the same of `SegmentOptions`, and its unit there."""
MOST_MS = 30_000  # of a pause and of padding: that much audio is kept, and no segment is longer by itself
BOTH = ("file", "model", "prompt", "response_format", "temperature", *SEARCH, *BUDGETS)
KNOWN: Mapping[Task, tuple[str, ...]] = {
    "transcribe": (
        *BOTH,
        *("language", "stream", *GRANULARITIES, CHUNKING, TYPE, *OF_VAD),
    ),
    "translate": BOTH,
}
NOT_HONOURED = {
    "include[]": "log-probabilities of tokens are not given",
    "include": "log-probabilities of tokens are not given",
    "languages[]": "the model is told the language in words; write it into prompt",
    "keywords[]": "the model has no list of words; write them into prompt",
    "known_speaker_names[]": "speakers are not told apart",
    "known_speaker_references[]": "speakers are not told apart",
}
IN_MEMORY = 1 << 20  # bytes of a file; what is larger lies in a temporary file without a name


@dataclass(frozen=True)
class Transcription:
    """A form that was read."""

    task: Task
    asked: Asked
    audio: bytes | BinaryIO  # a file is to be closed
    response_format: str
    granularities: tuple[str, ...]  # of the times in verbose_json: segment, word
    stream: bool
    language: str | None


async def read_form(request: Request, task: Task, served: Served) -> Transcription:
    """Receive a form and check it, all but the audio.

    Raises:
        ApiError: with the field that is wrong.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise ApiError(
            415,
            f"content-type {kind[:80]!r}: send multipart/form-data, with the audio as file",
            param="content-type",
            code="unsupported_media_type",
        )
    async with received_form(request) as form:
        return await _transcription(form, task, served)


async def _transcription(form: FormData, task: Task, served: Served) -> Transcription:
    fields = _fields(form, task)
    stream, form_of_answer = flag_of("stream", fields.get("stream")), _format(fields.get("response_format"))
    if stream and form_of_answer in OF_ONE_PIECE:
        raise refused(
            "stream", f"response_format {form_of_answer} is one piece; stream json, or {CHUNKING}=auto"
        )
    refuse_temperature(fields.get("temperature"))
    segmenting = _segmenting(fields)
    prompt, language = text_of("prompt", fields.get("prompt")), text_of("language", fields.get("language"))
    profile = profile_of(served.models, fields.get("model"))
    granularities = _granularities(form, form_of_answer, served.models, profile)
    if stream and "word" in granularities:
        raise refused("stream", "times of words come with the whole answer; stream times of segments")
    asked = Asked(
        profile=profile,
        auto=auto_of(served.models, profile, fields),
        prompt=(
            served.prompts.for_transcription(prompt, language)
            if task == "transcribe"
            else served.prompts.for_translation(prompt)
        ),
        system=None,
        search=search_of(fields),
        form=_form(form_of_answer, segmenting),
        in_pieces=stream,
        segmenting=segmenting or SegmentOptions(),
    )
    audio = await _audio(form.get("file"), served.max_upload_bytes)
    return Transcription(task, asked, audio, form_of_answer, granularities, stream, language)


def _fields(form: FormData, task: Task) -> dict[str, str]:
    """The fields that are texts, each once."""
    names = [name for name, _ in form.multi_items()]
    for name in names:
        if name in NOT_HONOURED:
            raise refused(name, NOT_HONOURED[name])
    refuse_unknown(names, KNOWN[task])
    for name in names:
        if name not in GRANULARITIES and names.count(name) > 1:
            raise invalid(name, "it is given more than once")
    texts = {name: value for name, value in form.multi_items() if isinstance(value, str)}
    for name, value in form.multi_items():
        if name != "file" and not isinstance(value, str):
            raise invalid(name, "it is a file; send a text")
    return texts


def _format(value: str | None) -> str:
    if value is None:
        return "json"
    if value == "diarized_json":
        raise refused("response_format", "diarized_json: speakers are not told apart")
    if value not in FORMATS:
        raise invalid("response_format", f"{value[:80]!r} is not one of {', '.join(FORMATS)}")
    return value


def _granularities(form: FormData, response_format: str, models: Models, profile: str) -> tuple[str, ...]:
    """What verbose_json has times of."""
    given = [(name, str(value)) for name in GRANULARITIES for value in form.getlist(name)]
    for name, value in given:
        if value not in ("segment", "word"):
            raise invalid(name, "give segment, word, or both")
        if response_format != "verbose_json":
            raise refused(name, "times are in response_format verbose_json, and of segments in srt and vtt")
        if value == "word" and not models.tells_words:
            raise refused(
                name,
                f"word: model {models.name}:{profile} tells no times of words; serve an artifact with heads "
                "for them (build --word-heads), or ask for segment",
            )
    return tuple(value for _, value in given) or ("segment",)


def _segmenting(fields: Mapping[str, str]) -> SegmentOptions | None:
    """How audio is cut, where the request says that it is to be; None: by the server's own mind."""
    given = _chunking(fields)
    if not given:
        return None
    if given.get(CHUNKING, given.get(TYPE)) not in ("auto", "server_vad"):
        raise invalid(CHUNKING, HOW_TO_CUT)
    values = {
        ours: number * unit
        for name, (ours, unit) in OF_VAD.items()
        if (number := number_of(name, given.get(name))) is not None
    }
    for name, (ours, _) in OF_VAD.items():
        if name.endswith("_ms]") and not 0 <= values.get(ours, 0.0) <= MOST_MS / 1e3:
            raise invalid(name, f"{given[name]}: give 0 to {MOST_MS}")
    try:
        return SegmentOptions(**values)
    except RequestError as error:
        raise invalid(CHUNKING, str(error)) from None


def _chunking(fields: Mapping[str, str]) -> Mapping[str, Any]:
    """The fields that say how audio is cut; an object is a field for each of its own, or one of JSON."""
    given = {name: value for name, value in fields.items() if name.startswith(CHUNKING)}
    if not given.get(CHUNKING, "").lstrip().startswith("{"):
        return given
    try:
        found = read_object(given.pop(CHUNKING))
    except JsonError as error:
        raise invalid(CHUNKING, f"{error}; {HOW_TO_CUT}") from None
    if given:
        raise invalid(next(iter(given)), f"it stands beside the JSON of {CHUNKING}; write it in there")
    written = {f"{CHUNKING}[{name}]": value for name, value in found.items() if value is not None}
    refuse_unknown(written, (TYPE, *OF_VAD))
    return {TYPE: None, **written}


def _form(response_format: str, segmenting: SegmentOptions | None) -> Form:
    """What has times is always in segments: those of the audio itself, not of windows."""
    return "segments" if response_format in TIMED or segmenting else "either"


async def _audio(upload: UploadFile | str | None, most: int) -> bytes | BinaryIO:
    """The content of the file; its name and type are not looked at."""
    if upload is None:
        raise invalid("file", "it is missing; send the audio as a file")
    if isinstance(upload, str):
        raise invalid("file", "it is a text; send the audio as a file (curl -F file=@call.mp3)")
    if (upload.size or 0) > most:
        raise too_large(most, "file", "file")
    if (upload.size or 0) <= IN_MEMORY:
        return await upload.read()
    return os.fdopen(os.dup(upload.file.fileno()), "rb")
