"""The profile of a request: named by the caller, or chosen by a budget once its audio has been read."""

from __future__ import annotations

from dataclasses import dataclass

from ..choice.choose import Choice, Sizes, choose, complete
from ..choice.target import Auto
from ..decoding.answer_sizes import AnswerSizes
from ..limits import check_room, length_limit, limit_of
from ..prompt import PromptIds
from .asked import Asked
from .audio import Heard, hear
from .loaded import LoadedModel


@dataclass(frozen=True, eq=False)
class Chosen:
    """A profile, and what became known while it was chosen."""

    profile: str | None  # None: the default
    reason: str | None = None  # of a choice
    heard: Heard | None = None  # the audio, where its length was needed


def heard_and_chosen(model: LoadedModel, asked: Asked, ids: PromptIds) -> Chosen:
    """The profile of a request. To choose one, its audio is decoded: no header is believed.

    Raises:
        AudioError: as `hear`; or longer than the model can hear beside the prompt and the answer.
        RequestError: figures are missing, or no profile is within the budget.
    """
    if not isinstance(asked.profile, Auto):
        return Chosen(asked.profile)
    complete(model.manifest.figures)  # told before the audio is read
    beams, tokens = asked.search.num_beams, asked.search.max_new_tokens
    check_room(model.manifest, ids, tokens)
    sizes = AnswerSizes(ids.num_text_rows, beams, tokens)
    heard = hear(model, asked, limit_of(length_limit(model.manifest, sizes), model.memory.of_encoding))
    choice = chosen_for(model, asked.profile, heard.audio.seconds, beams)
    return Chosen(choice.profile, choice.reason, heard)


def chosen_for(model: LoadedModel, auto: Auto, audio_seconds: float, beams: int) -> Choice:
    """The profile for a length of audio; errors as in `choose`."""
    manifest = model.manifest
    return choose(
        manifest.figures, tuple(manifest.profiles), auto, Sizes(audio_seconds, beams), model.machine
    )


def most_costly(model: LoadedModel, profile: str | Auto | None) -> str | None:
    """A profile beside which none that may be chosen takes more memory: the one that removes nothing.

    Raises:
        RequestError: figures are missing.
    """
    if not isinstance(profile, Auto):
        return profile
    accuracy, _ = complete(model.manifest.figures)
    return accuracy.against if accuracy.against in model.manifest.profiles else None
