"""How large an answer may become: what the memory and the shared steps of a request depend on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AnswerSizes:
    """What is asked for beside the audio."""

    text_rows: int
    num_beams: int
    max_new_tokens: int
    scored_tokens: int = 0  # of a text that is scored, one more row in each step; 0: there is none

    @property
    def step_rows(self) -> int:
        """Rows of a step, at most."""
        return self.num_beams + bool(self.scored_tokens)

    @property
    def steps(self) -> int:
        """Tokens of one of these rows, at most."""
        return max(self.max_new_tokens, self.scored_tokens)
