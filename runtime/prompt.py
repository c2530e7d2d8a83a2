"""From the text of a request to token ids before and after the audio, and back from tokens to text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from ..profiles.errors import ArtifactError, RequestError
from ..profiles.faults import is_count, shown, text_fault
from .artifact.prompt import AUDIO, PROMPT, SYSTEM, AudioPlace, Prompt, filled

Ids = npt.NDArray[np.int64]
LARGEST_ID = np.iinfo(np.int64).max
NO_CHARACTER = "\N{REPLACEMENT CHARACTER}"
BYTE_TOKEN = re.compile("<0x[0-9A-Fa-f]{2}>")
UNKNOWN_SECONDS = 9999.99  # of audio that is not read yet: no shorter one takes more tokens


@dataclass(frozen=True, eq=False)
class PromptIds:
    """The token ids on both sides of the audio rows.

    Lists and tuples of whole numbers become arrays.

    Raises:
        RequestError: anything else than such ids, or no id after the audio.
    """

    before: Ids  # (text_before,)
    after: Ids  # (text_after,), at least one
    adapter: Ids | None = (
        None  # (adapter,): of the prompt alone, where the model has a graph that reads it so
    )
    of_seconds: Callable[[float], PromptIds] | None = field(default=None, repr=False)
    """For a prompt that says how long its audio is: the ids for so many seconds, in place of these."""

    def __post_init__(self) -> None:
        for name in ("before", "after", *(["adapter"] if self.adapter is not None else ())):
            object.__setattr__(self, name, _ids(getattr(self, name)))
        if not len(self.after):
            raise RequestError("prompt ids: none follows the audio; the answer starts after a text row")

    def about(self, seconds: float) -> PromptIds:
        """The ids for audio of so many seconds."""
        return self.of_seconds(seconds) if self.of_seconds else self

    @property
    def num_text_rows(self) -> int:
        """Rows of the decoder input that are text."""
        return len(self.before) + len(self.after)


def _ids(given: object) -> Ids:
    if isinstance(given, list | tuple) and all(is_count(value) and value <= LARGEST_ID for value in given):
        return np.array(given, np.int64)
    if not isinstance(given, np.ndarray):
        raise RequestError(f"prompt ids {shown(given)}: give arrays (n,) of int64, or lists of token ids")
    if given.dtype != np.int64 or given.ndim != 1:
        raise RequestError(f"prompt ids of shape {given.shape}, {given.dtype}: give arrays (n,) of int64")
    return given


def tokenizer_of(content: bytes, place: str) -> Tokenizer:
    """The tokenizer that a tokenizer.json describes; `place` is what messages call the file.

    Raises:
        ArtifactError: it is none.
    """
    try:
        return Tokenizer.from_str(content.decode("utf-8"))
    except Exception as error:
        if type(error) not in (Exception, UnicodeDecodeError):  # the library has no type of its own
            raise
        raise ArtifactError(
            f"{place}: it is no tokenizer ({error}); take that of the original model"
        ) from None


@dataclass(frozen=True)
class RawPrompt:
    """A text that is taken whole: no template is put around it, and it names the place of the audio itself.

    Raises:
        RequestError: it is no text.
    """

    text: str

    def __post_init__(self) -> None:
        if faults := list(text_fault("prompt", self.text)):
            raise RequestError("; ".join(faults))


class PromptCodec:
    """The tokenizer with the model's templates."""

    def __init__(self, tokenizer: Tokenizer, prompt: Prompt) -> None:
        self._tokenizer = tokenizer
        self._prompt = prompt

    def encode(self, prompt: str | RawPrompt | None = None, system: str | None = None) -> PromptIds:
        """Put a text into the template, or take it whole where it names the place of the audio itself.

        Args:
            prompt: text of the request; None takes the artifact's default, or else an empty one.
            system: text for the template's place of that name.

        Raises:
            RequestError: the audio is named twice, nothing follows it, there is no place for `system`, or a
                text names an image or a video.
        """
        if prompt is None:
            prompt = self._prompt.default_prompt or ""
        found = self._encode(prompt, system, UNKNOWN_SECONDS)
        if self._prompt.seconds_mark is None:
            return found
        return replace(found, of_seconds=lambda seconds: self._encode(prompt, system, seconds))

    def _encode(self, prompt: str | RawPrompt, system: str | None, seconds: float) -> PromptIds:
        """The ids for audio of so many seconds."""
        self._refuse_marks(prompt if isinstance(prompt, str) else prompt.text, system or "")
        if isinstance(prompt, RawPrompt) or _names(self._prompt.audio_place, prompt):
            text = prompt if isinstance(prompt, str) else prompt.text
            return self._ids(text, *self._whole(self._timed(text, seconds), system))
        template = self._timed(self._template(prompt, system), seconds)
        before, after = (
            filled(part, {PROMPT: prompt, SYSTEM: system or ""}) for part in template.split(AUDIO)
        )
        return self._ids(prompt, before, after)

    def _refuse_marks(self, prompt: str, system: str) -> None:
        for name, text in (("prompt", prompt), ("system", system)):
            if found := [mark for mark in self._prompt.refused_marks if mark in text]:
                raise RequestError(
                    f"{name} {shown(text)}: {found[0]} stands for an image or a video, which is not "
                    "read here; leave it out"
                )

    def _timed(self, text: str, seconds: float) -> str:
        """A text with the length of the audio where its mark stands."""
        mark = self._prompt.seconds_mark
        return text if mark is None else text.replace(mark, f"{seconds:.2f}")

    def _template(self, prompt: str, system: str | None) -> str:
        if system is None:
            bare = self._prompt.bare_template
            return self._prompt.template if prompt or bare is None else bare
        if self._prompt.system_template is None:
            place = self._prompt.audio_place
            whole = f", or write the whole prompt yourself, with {place.example} in it" if place else ""
            raise RequestError(
                f"system {shown(system)}: the template of this model has no place for it; leave it out{whole}"
            )
        if not system:
            raise RequestError("system is empty: give a text, or leave it out to get the model's own")
        if _names(self._prompt.audio_place, system):
            raise RequestError(f"system {shown(system)}: it names the place of the audio; the prompt has it")
        return self._prompt.system_template

    def _whole(self, text: str, system: str | None) -> tuple[str, str]:
        """What stands before the audio in a text that is taken whole, and what stands after it."""
        place = self._prompt.audio_place
        if place is None:
            raise RequestError(
                f"prompt {shown(text)}: this model takes no text whole; give the prompt alone, or PromptIds"
            )
        if system is not None:
            raise RequestError(
                f"prompt {shown(text)}: it is taken whole, so there is no place for system {shown(system)}; "
                "write that into the prompt"
            )
        for mark in (place.begin, *([place.end] if place.end else ())):
            if (count := text.count(mark)) != 1:
                raise RequestError(f"prompt {shown(text)}: {mark} stands {count} times; one audio is read")
        before, rest = text.split(place.begin)
        if place.end and place.end not in rest:
            raise RequestError(f"prompt {shown(text)}: {place.end} stands before {place.begin}; swap them")
        return before, rest.split(place.end)[1] if place.end else rest

    def _ids(self, prompt: str, before: str, after: str) -> PromptIds:
        mine = self._prompt
        first, last = [*mine.first_ids, *self._tokens(before)], self._tokens(after)
        if not last:
            place = mine.audio_place.example if mine.audio_place else "the audio"
            raise RequestError(
                f"prompt {shown(prompt)}: nothing follows {place}; the answer starts after a text row"
            )
        if mine.first_id_after_audio is not None:
            last[0] = mine.first_id_after_audio
        adapter = None
        if mine.adapter_template is not None:
            adapter = np.array(self._tokens(filled(mine.adapter_template, {PROMPT: prompt})), np.int64)
        return PromptIds(np.array(first, np.int64), np.array(last, np.int64), adapter)

    def _tokens(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def answer_ids(self, text: str) -> Ids:
        """The ids (n,) of an answer by itself, as the model would give it."""
        return np.array(self._tokens(text), np.int64)

    @property
    def unknown_token(self) -> int | None:
        """What the tokenizer gives for a word that it does not know; None: it knows every text."""
        name = getattr(self._tokenizer.model, "unk_token", None)
        return None if name is None else self._tokenizer.token_to_id(name)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of generated tokens, special tokens left out."""
        text = str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))
        if NO_CHARACTER in text and self._knows_bytes:
            text = str(self._tokenizer.decoder.decode(list(_with_whole_characters(self._spelled(tokens)))))
        return text.strip()

    @cached_property
    def _knows_bytes(self) -> bool:
        """Whether tokens may stand for single bytes, as in SentencePiece."""
        decoder = self._tokenizer.decoder
        return decoder is not None and decoder.decode(["<0x41>"]) == "A"

    def _spelled(self, tokens: Iterable[int]) -> Iterator[str]:
        """What the decoder is given of tokens: how each is spelled, special ones left out."""
        for token in tokens:
            spelled = self._tokenizer.id_to_token(token)
            if spelled is not None and token not in self._special:
                yield spelled

    @cached_property
    def _special(self) -> frozenset[int]:
        """The ids that decoding leaves out; a tokenizer may have thousands of added tokens."""
        added = self._tokenizer.get_added_tokens_decoder()
        return frozenset(id_ for id_, token in added.items() if token.special)

    def stream(self, tokens: Iterable[int]) -> Iterator[str]:
        """The text that each token adds. Part of a character waits for the rest of it, or for the end."""
        seen: list[int] = []
        shown = text = ""
        for token in tokens:
            seen.append(token)
            text = self.decode(seen)
            if text.endswith(NO_CHARACTER):
                continue
            yield text[len(shown) :]
            shown = text
        if text != shown:
            yield text[len(shown) :]


def _with_whole_characters(tokens: Iterable[str]) -> Iterator[str]:
    """The same, but each run of bytes is valid UTF-8: what is no character in it is a token by itself.

    The library gives up all characters of another run, such as the last one of an answer that is cut short.
    """
    for of_bytes, run in groupby(tokens, lambda token: BYTE_TOKEN.fullmatch(token) is not None):
        spelled = _characters if of_bytes else iter
        yield from spelled(run)


def _characters(run: Iterable[str]) -> Iterator[str]:
    content = bytes(int(token[3:5], 16) for token in run)
    for character in content.decode("utf-8", "replace"):
        if character == NO_CHARACTER:
            yield character
        else:
            yield from (f"<0x{byte:02X}>" for byte in character.encode())


def _names(place: AudioPlace | None, text: str) -> bool:
    """Whether a text names the place of the audio."""
    return place is not None and any(mark in text for mark in (place.begin, place.end) if mark)
