"""Whether a model can take a request: asked before its audio is read, and again when that is known."""

from __future__ import annotations

from dataclasses import dataclass

from ..artifact.engines import Engines
from ..artifact.manifest import Manifest
from ..audio.read import Audio
from ..audio.recording import CheckLength
from ..decoding.answer_sizes import AnswerSizes
from ..decoding.options import ResolvedSearch
from ..limits import check_engines, check_ids, check_length, check_room, length_limit, limit_of
from ..memory.limit import CUT
from ..prompt import PromptIds
from .loaded import LoadedModel


@dataclass(frozen=True)
class Checked:
    """A request that the model can take, if its audio is not too long."""

    manifest: Manifest
    engines: Engines | None  # sizes that the backend was built for, if it was
    profile: str
    ids: PromptIds
    search: ResolvedSearch
    memory: CheckLength  # refuses audio beside which the request takes more than the limit
    scored_tokens: int = 0  # of a text that is scored beside the answer

    @property
    def sizes(self) -> AnswerSizes:
        """What is asked for beside the audio."""
        search = self.search
        return AnswerSizes(
            self.ids.num_text_rows, search.num_beams, search.max_new_tokens, self.scored_tokens
        )

    @property
    def while_read(self) -> CheckLength:
        """For `load_audio`, which then refuses audio that is too long before it has been decoded whole."""
        return limit_of(length_limit(self.manifest, self.sizes), self.memory)

    def check(self, place: str, audio: Audio) -> None:
        """Refuse audio that the model cannot take in this request; `place` is what messages call it.

        Raises:
            AudioError: too short or too long.
            RequestMemoryError: it might take more memory than the limit.
            RequestError: beyond the engines lies something else than the audio.
        """
        check_length(self.manifest, place, audio, self.sizes)
        self.memory(place, audio.seconds)
        self.check_engines(place, audio)

    def check_engines(self, place: str, audio: Audio) -> None:
        """Refuse what lies beyond the sizes that engines were built for; errors as in `check`."""
        if self.engines:
            check_engines(self.manifest, self.engines, place, audio, self.ids, self.search)


def checked(
    model: LoadedModel,
    ids: PromptIds,
    profile: str | None,
    search: ResolvedSearch,
    *,
    scored_tokens: int = 0,
    encoded: bool = False,
    shorter: str = CUT,
) -> Checked:
    """Check what is known before the audio.

    Args:
        model: what is to answer.
        ids: the prompt.
        profile: None for the default.
        search: the options.
        scored_tokens: of a text that is scored beside the answer.
        encoded: the audio was heard before, and takes no more memory.
        shorter: how messages say what gives shorter audio.

    Raises:
        RequestError: the model is closed, an unknown profile, or a prompt that it cannot take under it or
            beside which there is no room.
    """
    engines, manifest, name = model.sessions.limits, model.manifest, model.profile_named(profile)
    check_ids(manifest, ids, name)
    check_room(manifest, ids, search.max_new_tokens)
    sizes = AnswerSizes(ids.num_text_rows, search.num_beams, search.max_new_tokens, scored_tokens)
    memory = model.memory.of_request(manifest.profiles[name], sizes, encoded, shorter)
    return Checked(manifest, engines, name, ids, search, memory, scored_tokens)
