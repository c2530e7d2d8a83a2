"""How a checkpoint wants to be searched: generation_config.json, as far as a search without sampling goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .....profiles.errors import CheckpointError, RequestError
from .....runtime.decoding.options import SearchOptions
from ....checkpoint.checkpoint import Checkpoint
from .settings import search_notes

GENERATION = "generation_config.json"
TAKEN = (
    *("num_beams", "max_new_tokens", "min_new_tokens", "length_penalty", "early_stopping"),
    *("repetition_penalty", "no_repeat_ngram_size", "suppress_tokens", "begin_suppress_tokens"),
)
"""Fields of `SearchOptions` that the file has under the same names; end tokens are read by `eos_ids`."""


@dataclass(frozen=True)
class Generation:
    """The file, and the search that it asks for."""

    place: str
    values: Mapping[str, Any]
    search: SearchOptions

    def notes(self, *used: str) -> Iterator[str]:
        """A line on what is left of it; `used` are settings that the family has read by itself."""
        yield from search_notes(self.place, self.values, (*TAKEN, *used))


def read_generation(checkpoint: Checkpoint) -> Generation:
    """Read it; a missing file asks for nothing.

    Raises:
        CheckpointError: a setting that no search here can have.
    """
    place, values = f"{checkpoint.folder / GENERATION}", checkpoint.optional_json(GENERATION)
    given = {name: _as_tuple(values[name]) for name in TAKEN if values.get(name) is not None}
    try:
        search = SearchOptions(**given)
        search.resolved()  # what a search without options would be
    except RequestError as error:
        raise CheckpointError(f"{place}: {error}; correct the file, or take the setting out of it") from None
    return Generation(place, values, search)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
