"""Text normalisers by name: what two spellings must share to count as one answer. Results record the name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from unicodedata import category

Normalize = Callable[[str], str]


@dataclass(frozen=True)
class Normalizer:
    """A normaliser, and what it takes."""

    load: Callable[[], Normalize]
    packages: tuple[str, ...] = ()  # as Python imports them


def _none() -> Normalize:
    return lambda text: " ".join(text.split())


ZERO_WIDTH_SPACE = "\u200b"  # between words of Khmer, Thai and others
NON_JOINER, JOINER = "\u200c", "\u200d"  # within words of Persian and of Indian scripts


def _basic() -> Normalize:
    from whisper_normalizer.basic import BasicTextNormalizer

    normalize = BasicTextNormalizer(preserve_marks=True)  # or Hindi, Tamil and Thai lose their vowels
    return _spaced(lambda text: _without_stray_marks(normalize(text)))


def _without_stray_marks(text: str) -> str:
    """With marks and joiners of letters, not those of an emoji, and without all else that is invisible."""
    kept, after_letter = list[str](), False
    for character in text.replace(ZERO_WIDTH_SPACE, " "):
        kind = category(character)
        joins = character in (NON_JOINER, JOINER)
        if kind[0] != "M" and kind != "Cf":
            after_letter = kind[0] == "L"
        elif not after_letter or (kind == "Cf" and not joins):
            continue
        kept.append(character)
    return re.sub(rf"{NON_JOINER}(?!\S)", "", "".join(kept))


def _english() -> Normalize:
    from whisper_normalizer.english import EnglishTextNormalizer

    normalize = EnglishTextNormalizer()  # which joins the words of a number, if nothing stands between them
    return _spaced(lambda text: normalize(_without_stray_marks(text).replace("’", "'")))


def _spaced(normalize: Normalize) -> Normalize:
    return lambda text: " ".join(normalize(text).split())


WHISPER = ("whisper_normalizer",)
NORMALIZERS = {
    # Runs of white space become one space.
    "none": Normalizer(_none),
    # Whisper's for any language, but with combining marks kept: lower case, no punctuation, no [noise].
    "basic": Normalizer(_basic, WHISPER),
    # Whisper's for English: spelling, numbers and contractions, too, with either apostrophe.
    "english": Normalizer(_english, WHISPER),
}
