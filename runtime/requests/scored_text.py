"""A text whose probability as the answer is wanted: its ids, and the room that they take in a request."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...profiles.errors import RequestError
from ...profiles.faults import shown, text_fault
from ..artifact.artifact import NO_TOKENIZER
from ..limits import free_positions
from ..prompt import Ids, PromptIds
from .asked import Asked
from .loaded import LoadedModel


def spellings(model: LoadedModel, asked: Asked, prompt: PromptIds) -> tuple[Ids, ...]:
    """The ids (n,) of the text by itself, and with a blank before it; nothing where none is to be scored.

    Answers lose blanks around them, so both are the same answer, and a model is trained to give one of them.

    Raises:
        RequestError: it is no text or an empty one, its words are unknown to the tokenizer, it leaves no room
            for audio, or this model cannot score any.
    """
    if (text := asked.scored_text) is None:
        return ()
    if faults := list(text_fault("scored_text", text)):
        raise RequestError("; ".join(faults))
    if model.codec is None:
        raise RequestError(f"{model.place}: {NO_TOKENIZER}")
    if not model.sessions.scores_all_tokens:
        raise RequestError(
            f"{model.place}: engines give the best tokens alone, and a text may have others: score it with "
            "backend onnxruntime"
        )
    found = tuple(model.codec.answer_ids(blank + text.strip()) for blank in ("", " "))
    if not text.strip() or not all(map(len, found)):
        raise RequestError(f"scored_text {shown(text)} holds no token: give the text of an answer")
    if (unknown := model.codec.unknown_token) is not None and unknown in np.concatenate(found):
        raise RequestError(
            f"scored_text {shown(text)}: the tokenizer has no token for some of it; give words that it knows"
        )
    longest, free = max(map(len, found)), free_positions(model.manifest) - prompt.num_text_rows - 1
    if longest > free:
        raise RequestError(
            f"scored_text {shown(text)}: {longest} tokens leave no room for audio in this model's "
            f"{model.manifest.decoder.max_positions} positions; score a text of at most {max(free, 0)}"
        )
    return found


def tokens_of(scored: Sequence[Ids]) -> int:
    """Tokens of the longest of the spellings, an end token included; 0 if there are none."""
    return max((len(ids) + 1 for ids in scored), default=0)
