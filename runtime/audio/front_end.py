"""The audio tower as data: how samples become rows of the decoder, and how many; everything else asks it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ...profiles.errors import ArtifactError
from ...profiles.faults import count_faults, shown
from .log_mel import LogMelConfig, encoder_rows

MOST_ROWS = 2**16  # that make a token, or that stand on one side of the audio


@dataclass(frozen=True)
class FrontEnd:
    """From samples to audio tokens, as the manifest keeps it.

    Samples become log-mel frames, frames become encoder rows (`LogMelConfig`), and these become audio tokens
    by a rule. Around the tokens the encoder graph may set rows of its own, once for a clip.

    Raises `ArtifactError` when a field is out of range.
    """

    log_mel: LogMelConfig
    rows_per_token: int  # encoder rows that make one audio token
    token_rule: str = "pooled"  # one of TOKEN_RULES
    bos_rows: int = 0  # rows that the encoder graph sets before the audio tokens
    eos_rows: int = 0  # and after them

    def __post_init__(self) -> None:
        if faults := list(_faults(self)):
            raise ArtifactError(f"front end: {'; '.join(faults)}; build the artifact again")

    @property
    def rows_around(self) -> int:
        """Rows that the encoder graph sets around the audio tokens."""
        return self.bos_rows + self.eos_rows

    @property
    def least_encoder_rows(self) -> int:
        """The fewest rows that the encoder is run for: those that give one audio token, or a full window."""
        most = self.log_mel.max_rows
        if self.log_mel.full_windows:
            return most
        return bisect_left(range(most), 1, key=self.tokens_of)

    def tokens_of(self, encoder_rows: int) -> int:
        """Audio tokens that the encoder makes of one window of so many rows, 0 to `log_mel.max_rows`."""
        return TOKEN_RULES[self.token_rule](self, encoder_rows)

    def audio_tokens(self, num_samples: int) -> int:
        """Audio tokens of so many samples: those of whole windows and of the rest."""
        config = self.log_mel
        windows, rest = divmod(num_samples, config.window_samples)
        tokens = windows * self.tokens_of(config.max_rows)
        return tokens + (self.tokens_of(encoder_rows(rest, config)) if rest else 0)

    def decoder_rows(self, num_samples: int) -> int:
        """Rows of the decoder that stand for so many samples: the audio tokens, and the rows around them."""
        return self.audio_tokens(num_samples) + self.rows_around

    @property
    def shortest_samples(self) -> int:
        """The fewest samples that give a decoder row."""
        return bisect_left(range(self.log_mel.window_samples), 1, key=self.audio_tokens)

    def seconds_of(self, rows: int) -> float:
        """The longest audio, in seconds, that gives at most so many rows of the decoder.

        A last piece too short for a token of its own is not counted: rows stand for the seconds that they
        stand for in a whole window.
        """
        window = self.log_mel.window_samples
        per_window = self.audio_tokens(window)
        windows, left = divmod(max(0, rows - self.rows_around), per_window)
        fitting = bisect_right(range(window), left, key=self.audio_tokens) - 1  # samples
        rest = min(fitting, left * window // per_window)
        return (windows * window + rest) / self.log_mel.sample_rate


TOKEN_RULES: dict[str, Callable[[FrontEnd, int], int]] = {
    "pooled": lambda front_end, rows: rows // front_end.rows_per_token,
}
"""Name -> audio tokens of one window of so many encoder rows, exact, and never fewer for more rows."""


def _faults(front_end: FrontEnd) -> Iterator[str]:
    least = {"rows_per_token": 1, "bos_rows": 0, "eos_rows": 0}
    wrong = list(count_faults(front_end, least, dict.fromkeys(least, MOST_ROWS)))
    yield from wrong
    if front_end.token_rule not in TOKEN_RULES:
        yield f"token_rule {shown(front_end.token_rule)} is unknown (known: {', '.join(TOKEN_RULES)})"
    elif not wrong and not front_end.tokens_of(front_end.log_mel.max_rows):
        yield f"a window of {front_end.log_mel.max_rows} encoder rows gives no audio token"
