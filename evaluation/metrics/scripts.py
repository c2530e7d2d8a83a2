"""Texts in scripts without blanks between words, of which there are no words to compare."""

from __future__ import annotations

import re
from collections.abc import Iterable

UNSPACED = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"  # kana and Han
    r"\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff]"  # Thai, Lao, Tibetan, Burmese, Khmer
)
"""Their letters."""


def are_unspaced(texts: Iterable[str]) -> bool:
    """Whether most letters of the texts are of such scripts."""
    letters = [letter for text in texts for letter in text if letter.isalpha()]
    return 2 * sum(UNSPACED.match(letter) is not None for letter in letters) > len(letters)
