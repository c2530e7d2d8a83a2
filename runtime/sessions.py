"""What a backend opens for one artifact: a session for each of its graphs."""

from __future__ import annotations

from typing import Protocol

from .artifact.engines import Engines
from .session import Session, StepSession


class Sessions(Protocol):
    """The sessions of one loaded artifact."""

    @property
    def encoder(self) -> Session:
        """One window of audio."""

    @property
    def wave_encoder(self) -> Session | None:
        """A whole clip; None where the audio tower has no such encoder."""

    @property
    def decode(self) -> Session:
        """One step of all beams, for every profile."""

    @property
    def steps(self) -> StepSession | None:
        """The same session, if its steps take several requests; None where they take one."""

    @property
    def limits(self) -> Engines | None:
        """The sizes that the backend was built for; None where only the model limits them."""

    @property
    def planned(self) -> bool:
        """Whether working memory is taken when the artifact is loaded, as engines do."""

    @property
    def scores_all_tokens(self) -> bool:
        """Whether steps give the scores of any number of tokens, rather than of the best ones alone."""

    @property
    def unrolled(self) -> bool:
        """Whether a prefill has no Loops, which give their memory back in each round."""

    @property
    def precision(self) -> str:
        """The number format that the graphs compute in: fp32, fp16, bf16."""

    @property
    def device(self) -> str:
        """What the backend runs on, for people."""

    def prompt_adapter(self) -> Session:
        """What reads the prompt by itself, of an artifact whose manifest has such a graph."""

    def prefill(self, profile: str) -> Session:
        """The prefill session of a profile of the artifact."""
