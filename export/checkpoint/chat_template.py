"""The chat template of a checkpoint, cut at build time into a template with places, so that none runs later.

A template is a program. It is rendered for known texts, and what comes out is cut where these stand; whether
it would say the same around other texts is tried with some that show how a template can change a text.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...profiles.errors import CheckpointError, DependencyError
from ...profiles.faults import is_unicode, shown
from ...runtime.artifact.prompt import AUDIO, PROMPT, SYSTEM, AudioPlace, Prompt, filled
from .checkpoint import Checkpoint

KEY = "chat_template"
FILES = ("processor_config.json", "chat_template.json", "chat_template.jinja", "tokenizer_config.json")
"""Where a template may stand, the file that counts first in front, as in transformers."""

TOKENIZER_SETTINGS = "tokenizer_config.json"
SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
SANDBOX = Path(__file__).parent / "sandbox.py"
SECONDS = 300.0  # by the clock, on however busy a machine: what loops ends by the CPU time of the sandbox

PROBES = (
    ("qzjxSYSTEMxjzq", "qzjxPROMPTxjzq"),
    (" \n Sys\t", " \n Ask it\t\n "),  # trimmed?
    ("<Sys> & 'it's' \"q\" \\n\\", "<Ask> & 'it's' \"q\" \\n\\"),  # escaped?
    ("{system} {{ x }} {% y %} {0}", "{prompt} {{ x }} {% y %} {audio}"),  # formatted, or rendered again?
    ("系统 ÀÉ ß", "问题 ÀÉ ß ﬁ"),  # another case, another normal form?
    ("long " * 400, "long " * 400),  # cut?
    ("none", ""),  # is an empty prompt one that is missing? This one is the last, and that of a bare form.
)
"""Texts of system and prompt; the first ones show where they stand."""

Message = Mapping[str, Any]
Rendered = Mapping[str, str]


@dataclass(frozen=True)
class Source:
    """A template, and the file that has it."""

    place: str
    text: str


class _UnfitError(Exception):
    """Why a template cannot be a text with places."""


def with_chat_template(
    checkpoint: Checkpoint,
    base: Prompt | None,
    *,
    prompt_is_answer: bool = False,
    as_text: bool = False,
    has_bare_form: bool = False,
) -> tuple[Prompt | None, tuple[str, ...]]:
    """The prompt of a checkpoint with the chat template of its own, and notes on what of it is not used.

    Args:
        checkpoint: whose files are looked at.
        base: the form without a conversation, for checkpoints without a template; names the audio's place.
            None, where there is no tokenizer, has no template either.
        prompt_is_answer: whether the text of a request is no part of the question, but how its answer begins.
        as_text: whether a message is one text, in which the audio's place is named, and no list of parts.
        has_bare_form: whether a question without a text, which has no part for one, may have another form,
            which is kept by itself.

    Raises:
        CheckpointError: a template that is no template, reaches out of its sandbox, or does not end.
        DependencyError: there is one, and jinja2 is missing.
    """
    source = None if base is None else _source(checkpoint)
    if base is None or source is None:
        return base, ()
    place = base.audio_place
    assert place is not None, "a model with a chat template names the place of the audio"
    heard, probes = place.example if as_text else None, len(PROBES) - has_bare_form
    asked = [None if prompt_is_answer else prompt for _, prompt in PROBES]
    if has_bare_form:
        asked[-1] = None
    rendered = _render(source, _special_tokens(checkpoint), asked, heard)
    if prompt_is_answer:
        rendered = {key: _answered(text, PROBES[key[1]][1]) for key, text in rendered.items()}
    try:
        template = _cut([rendered[(None, i)] for i in range(probes)], place, has_system=False)
        bare = _cut_bare(rendered[(None, probes)], place) if has_bare_form else None
    except _UnfitError as error:
        system_template, reason = _with_system(rendered, place, probes)
        return replace(base, system_template=None if reason else system_template), (
            f"{source.place}: not used, because {error}; a plain prompt goes into the base form "
            f"{base.template!r}, and a text that names {place.example} is taken whole",
        )
    system_template, reason = _with_system(rendered, place, probes)
    note = f"{source.place}: a request cannot have a system text, because {reason}"
    found = replace(base, template=template, system_template=system_template, bare_template=bare)
    return found, (note,) if reason else ()


def _with_system(
    rendered: Mapping[tuple[str | None, int], Rendered], place: AudioPlace, probes: int
) -> tuple[str | None, str]:
    """The template with a place for a system text, if a form of one gets into it unchanged; else why not.

    The first so many probes count.
    """
    reason = ""
    for form in FORMS:
        try:
            return _cut([rendered[(form, i)] for i in range(probes)], place, has_system=True), ""
        except _UnfitError as error:
            reason = reason or str(error)
    return None, reason


FORMS = ("text", "parts")
"""How a conversation may hold a system text: as it is, or as a list with one part."""


def _conversation(form: str | None, system: str, prompt: str | None, heard: str | None) -> list[Message]:
    """One question; `heard` is how a text names the audio, None for a list of parts."""
    audio = {"type": "audio", "audio": "clip.wav", "audio_url": "clip.wav"}
    asked = [] if prompt is None else [{"type": "text", "text": prompt}]
    user: Message = {"role": "user", "content": [audio, *asked] if heard is None else heard + (prompt or "")}
    if form is None:
        return [user]
    content = system if form == FORMS[0] else [{"type": "text", "text": system}]
    return [{"role": "system", "content": content}, user]


def _render(
    source: Source, variables: Mapping[str, Any], asked: Sequence[str | None], heard: str | None
) -> dict[tuple[str | None, int], Rendered]:
    """What the template makes of each probe, without a system text and with both forms of one.

    `asked` has the prompts, None for a question without a text.

    Raises:
        CheckpointError, DependencyError: as `with_chat_template`.
    """
    if find_spec("jinja2") is None:
        raise DependencyError(
            f'{source.place}: jinja2 is missing, which reads it: pip install "fastadasp-export[export]"'
        )
    keys = [(form, i) for form in (None, *FORMS) for i in range(len(PROBES))]
    job = {
        "template": source.text,
        "variables": {**variables, "add_generation_prompt": True, "tools": None, "documents": None},
        "conversations": [_conversation(form, PROBES[i][0], asked[i], heard) for form, i in keys],
    }
    return dict(zip(keys, _run(source, json.dumps(job)), strict=True))


def _answered(rendered: Rendered, prompt: str) -> Rendered:
    """With the beginning of an answer, which stands behind all that a template writes."""
    return {**rendered, "text": rendered["text"] + prompt} if "text" in rendered else rendered


def _run(source: Source, job: str) -> Sequence[Rendered]:
    remedy = "take the file of the original checkpoint, or remove it to build without it"
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(SANDBOX)],
            input=job,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CheckpointError(f"{source.place}: it does not end within {SECONDS:.0f} s; {remedy}") from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [""])[-1] if done.returncode > 0 else "it does not end"
        raise CheckpointError(f"{source.place}: it cannot be rendered ({shown(reason)}); {remedy}")
    found = json.loads(done.stdout)
    if "refused" in found:
        raise CheckpointError(f"{source.place}: {found['refused']}; {remedy}")
    texts: Sequence[Rendered] = found["texts"]
    return texts


def _cut(rendered: Sequence[Rendered], place: AudioPlace, *, has_system: bool) -> str:
    """The template with places behind what came out for each of the first probes.

    Raises:
        _UnfitError: there is none.
    """
    if fault := next((each["fault"] for each in rendered if "fault" in each), None):
        raise _UnfitError(f"it refuses a question about audio ({fault})")
    texts = [each["text"] for each in rendered]
    template = _template(texts[0], place, has_system=has_system)
    for (system, prompt), text in zip(PROBES[: len(texts)], texts, strict=True):
        before, after = (filled(part, {PROMPT: prompt, SYSTEM: system}) for part in template.split(AUDIO))
        heard = text[len(before) : len(text) - len(after)]
        if text != before + heard + after or not re.fullmatch(_pattern(place), heard, re.DOTALL):
            raise _UnfitError(
                f"it changes texts, or depends on them: {shown(prompt)} came out in another form"
            )
    return template


def _cut_bare(rendered: Rendered, place: AudioPlace) -> str:
    """What came out for a question without a text, with the place of its audio.

    Raises:
        _UnfitError: it is refused, or has no such place.
    """
    if "fault" in rendered:
        raise _UnfitError(f"it refuses audio without a question ({rendered['fault']})")
    text, count = re.subn(_pattern(place), AUDIO, rendered["text"], flags=re.DOTALL)
    if count != 1 or any(mark in text for mark in (PROMPT, SYSTEM)):
        raise _UnfitError(f"without a question it writes {NAMES[AUDIO]} {count} times")
    return text


def _template(text: str, place: AudioPlace, *, has_system: bool) -> str:
    if any(mark in text for mark in (AUDIO, PROMPT, SYSTEM)):
        raise _UnfitError(f"its own text holds {AUDIO}, {PROMPT} or {SYSTEM}")
    system, prompt = PROBES[0]
    places = {_pattern(place): AUDIO, re.escape(prompt): PROMPT}
    if has_system:
        places[re.escape(system)] = SYSTEM
    for pattern, mark in places.items():
        text, count = re.subn(pattern, mark, text, flags=re.DOTALL)
        if count != 1:
            raise _UnfitError(f"it writes {NAMES[mark]} {count} times")
    return text


NAMES = {AUDIO: "the place of the audio", PROMPT: "the prompt", SYSTEM: "the system text"}


def _pattern(place: AudioPlace) -> str:
    return re.escape(place.begin) + (f".*?{re.escape(place.end)}" if place.end else "")


def _source(checkpoint: Checkpoint) -> Source | None:
    """The first template that there is.

    Raises:
        CheckpointError: it is no text, or there are several and none is the default.
    """
    for name in FILES:
        path = checkpoint.folder / name
        if not path.is_file():
            continue
        found = _text(path) if path.suffix == ".jinja" else checkpoint.json(name).get(KEY)
        if found is not None:
            return Source(str(path), _default(str(path), found))
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        raise CheckpointError(f"{path}: it is not UTF-8; copy it again") from None


def _default(place: str, found: object) -> str:
    """A template, or the default one of several by name."""
    if isinstance(found, list):
        found = {
            entry["name"]: entry.get("template")
            for entry in found
            if isinstance(entry, dict) and isinstance(entry.get("name"), str)
        }
    if isinstance(found, dict):
        found = found.get("default")
    if not isinstance(found, str) or not is_unicode(found):
        raise CheckpointError(
            f"{place}: {KEY} is {shown(found)}, the text of a template is expected, or several of which one "
            "is the default; take the file of the original checkpoint"
        )
    return found


def _special_tokens(checkpoint: Checkpoint) -> dict[str, str]:
    """The special tokens of the tokenizer, which templates may write."""
    return dict(_tokens(checkpoint.optional_json(TOKENIZER_SETTINGS)))


def _tokens(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in SPECIAL_TOKENS:
        token = settings.get(name)
        text = token.get("content") if isinstance(token, dict) else token
        if isinstance(text, str):
            yield name, text
