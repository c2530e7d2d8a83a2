"""What a checkpoint suggests for searches, brought within the sizes that engines are built for."""

from __future__ import annotations

from dataclasses import replace

from ...runtime.decoding.options import SearchOptions
from ..model.spec import SpeechModelSpec
from ..options import EngineOptions


def within_engines(model: SpeechModelSpec, options: EngineOptions) -> SpeechModelSpec:
    """The model with suggestions that its engines can take, and a note on each that was lowered.

    Without this, no request that leaves them out could be answered.
    """
    given, notes = model.generation.given, []
    for name, (limit, flag) in _limits(options).items():
        if (asked := given.get(name, 0)) > limit:
            given[name] = limit
            notes.append(
                f"{name} {asked} of the checkpoint is more than the engines take: requests that leave it out "
                f"have {limit}; build with {flag} {asked} for more"
            )
    return replace(model, generation=SearchOptions(**given), notes=(*model.notes, *notes)) if notes else model


def _limits(options: EngineOptions) -> dict[str, tuple[int, str]]:
    """Field of `SearchOptions` -> the most that the engines take, and the option that says it."""
    return {
        "num_beams": (options.max_beams, "--max-beams"),
        "max_new_tokens": (options.max_new_tokens, "--max-new-tokens"),
    }
