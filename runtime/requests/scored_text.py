"""A text whose probability as the answer is wanted: its ids, and the room that they take in a request."""

from __future__ import annotations

from dataclasses import replace

from ...profiles.errors import RequestError
from ...profiles.faults import shown, text_fault
from ..decoding.options import ResolvedSearch
from ..prompt import Ids
from .asked import Asked
from .loaded import LoadedModel


def scored_ids(model: LoadedModel, asked: Asked) -> Ids | None:
    """The ids (n,) of the text, as the model would give it as an answer; None where none is to be scored.

    Raises:
        RequestError: it is no text or an empty one, or this model cannot score any.
    """
    if (text := asked.scored_text) is None:
        return None
    if faults := list(text_fault("scored_text", text)):
        raise RequestError("; ".join(faults))
    if model.codec is None:
        raise RequestError(f"{model.place}: it has no tokenizer, so no text can be scored")
    if model.sessions.limits is not None:
        raise RequestError(
            f"{model.place}: engines give the best tokens alone, and a text may have others: score it with "
            "backend onnxruntime"
        )
    if not len(ids := model.codec.answer_ids(text)):
        raise RequestError(f"scored_text {shown(text)} holds no token: give the text of an answer")
    return ids


def with_room(search: ResolvedSearch, scored: Ids) -> ResolvedSearch:
    """A search of the size that this one has with the row of the text beside it."""
    longest = max(search.max_new_tokens, len(scored) + 1)
    return replace(search, num_beams=search.num_beams + 1, max_new_tokens=longest)
