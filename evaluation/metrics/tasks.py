"""The tasks that clips can be of: what each one is measured by, and by whose code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .metric import Measure


@dataclass(frozen=True)
class Task:
    """One kind of clip."""

    module: str  # of this package; its function `measure_for(languages)` gives the metrics
    packages: tuple[str, ...]  # that the metrics need, as Python imports them
    normalizer: str  # of both sides, before the metrics see them; one of `NORMALIZERS`
    several_references: bool = False  # `text` may be a list of accepted answers
    whole_texts: bool = False  # an answer is right where it equals a reference
    reference: str = "text"  # the key of a clip list that holds the reference

    def measure_for(self, languages: Sequence[str] = ()) -> Measure:
        """The function that measures the answers of one profile.

        Raises:
            ImportError: a package of the metrics is not installed.
        """
        measure: Measure = import_module(f".{self.module}", __package__).measure_for(languages)
        return measure


TASKS = {
    "asr": Task("word_errors", ("jiwer",), "basic"),
    "translate": Task("translation", ("sacrebleu",), "none"),
    "classify": Task("classification", ("sklearn",), "basic", whole_texts=True, reference="label"),
    "caption": Task("captioning", ("pycocoevalcap",), "none", several_references=True),
    "qa": Task("exact_match", (), "basic", several_references=True, whole_texts=True),
}
WHOLE_TEXTS = frozenset(name for name, task in TASKS.items() if task.whole_texts)
"""The tasks whose answers are right where they equal a reference."""
