"""From the text of a request to token ids before and after the audio, and back from tokens to text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from ..profiles.errors import ArtifactError, RequestError
from ..profiles.faults import is_count, shown
from .artifact.manifest import Prompt

Ids = npt.NDArray[np.int64]
LARGEST_ID = np.iinfo(np.int64).max


@dataclass(frozen=True)
class PromptIds:
    """The token ids on both sides of the audio rows.

    Lists and tuples of whole numbers become arrays.

    Raises:
        RequestError: anything else than such ids, or no id after the audio.
    """

    before: Ids  # (text_before,)
    after: Ids  # (text_after,), at least one

    def __post_init__(self) -> None:
        for name in ("before", "after"):
            object.__setattr__(self, name, _ids(getattr(self, name)))
        if not len(self.after):
            raise RequestError("prompt ids: none follows the audio; the answer starts after a text row")

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


def read_tokenizer(path: Path) -> Tokenizer:
    """A tokenizer.json.

    Raises:
        ArtifactError: the file is no tokenizer.
    """
    try:
        return Tokenizer.from_str(path.read_text("utf-8"))  # its own reader takes no path that is not UTF-8
    except Exception as error:
        if type(error) not in (Exception, UnicodeDecodeError):  # the library has no type of its own
            raise
        raise ArtifactError(
            f"{path}: it is no tokenizer ({error}); take that of the original model"
        ) from None


class PromptCodec:
    """The tokenizer with the model's template."""

    def __init__(self, tokenizer: Path, prompt: Prompt) -> None:
        self._tokenizer = read_tokenizer(tokenizer)
        self._prompt = prompt

    def encode(self, text: str) -> PromptIds:
        """Put the text into the template, or take it whole where it names the place of the audio itself.

        Raises:
            RequestError: the audio is named twice, or nothing follows it.
        """
        audio = self._prompt.audio_token
        whole = text if audio in text else self._prompt.template.replace("{prompt}", text)
        if whole.count(audio) != 1:
            raise RequestError(
                f"prompt {shown(text)}: {audio} stands {whole.count(audio)} times; one audio is read"
            )
        before, after = (
            np.array(self._tokenizer.encode(part, add_special_tokens=False).ids, np.int64)
            for part in whole.split(audio)
        )
        if not len(after):
            raise RequestError(
                f"prompt {shown(text)}: nothing follows {audio}; the answer starts after a text row"
            )
        return PromptIds(before, after)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of generated tokens, special tokens left out."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True)).strip()

    def stream(self, tokens: Iterable[int]) -> Iterator[str]:
        """The text that each token adds. Part of a character waits for the rest of it, or for the end."""
        seen: list[int] = []
        shown = text = ""
        for token in tokens:
            seen.append(token)
            text = self.decode(seen)
            if text.endswith("\N{REPLACEMENT CHARACTER}"):
                continue
            yield text[len(shown) :]
            shown = text
        if text != shown:
            yield text[len(shown) :]
