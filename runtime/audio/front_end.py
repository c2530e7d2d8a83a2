"""The audio tower as data: how samples become rows of the decoder, and how many; everything else asks it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ...profiles.errors import ArtifactError
from ...profiles.faults import count_faults, shown
from ...profiles.profile import Profile
from .features import Features, encoder_rows

MOST_ROWS = 2**16  # that make a token, or that stand on one side of the audio


@dataclass(frozen=True)
class WaveEncoder:
    """The second encoder of a tower that has one. It hears the whole clip at once, as samples."""

    first_samples: int  # that one of its rows is made of
    step_samples: int  # from one row to the next
    window_width: int  # columns of the windows' rows, which it takes as well

    def rows_of(self, num_samples: int) -> int:
        """Its rows for so many samples, before they become tokens."""
        return max(0, (num_samples - self.first_samples) // self.step_samples + 1)


@dataclass(frozen=True)
class FrontEnd:
    """From samples to audio tokens, as the manifest keeps it.

    Samples become frames, and frames become encoder rows (of log-mel windows `LogMelConfig`, of whole clips
    `ClipFeatures`, of windows of the samples themselves `WaveWindows`), and these become audio tokens by a
    rule. Around the tokens the encoder graph may set rows of its own, once for a clip. Where a second encoder
    hears the whole wave, its rows become tokens by the same rule, and the shorter of the two counts.

    Raises `ArtifactError` when a field is out of range.
    """

    log_mel: Features
    rows_per_token: int  # encoder rows that make one audio token, or `tokens_per_group`
    token_rule: str = "pooled"  # one of TOKEN_RULES
    bos_rows: int = 0  # rows that the encoder graph sets before the audio tokens
    eos_rows: int = 0  # and after them
    wave: WaveEncoder | None = None
    most_windows: int | None = None  # that the model hears; None: as many as its decoder has positions for
    tokens_per_group: int = 1

    def __post_init__(self) -> None:
        if faults := list(_faults(self)):
            raise ArtifactError(f"front end: {'; '.join(faults)}; build the artifact again")

    @property
    def rows_around(self) -> int:
        """Rows that the encoder graph sets around the audio tokens."""
        return self.bos_rows + self.eos_rows

    @property
    def least_encoder_rows(self) -> int:
        """The fewest rows that the encoder is asked for: those of one audio token, or of a full window."""
        most = self.log_mel.max_rows
        if self.log_mel.full_windows and self.log_mel.cuts == "never":
            return most
        return bisect_left(range(most), 1, key=self.tokens_of)

    def tokens_of(self, encoder_rows: int) -> int:
        """Audio tokens that the encoder makes of one window of so many rows, 0 to `log_mel.max_rows`."""
        return TOKEN_RULES[self.token_rule](self, encoder_rows)

    def window_width(self, hidden_size: int) -> int:
        """Columns of the rows that the encoder makes of a window, for a decoder of `hidden_size`."""
        return self.wave.window_width if self.wave else hidden_size

    def audio_tokens(self, num_samples: int) -> int:
        """Audio tokens of so many samples."""
        tokens = self.window_tokens(num_samples)
        return min(tokens, self._wave_tokens(self.wave, num_samples)) if self.wave else tokens

    def window_tokens(self, num_samples: int) -> int:
        """Those that the windows of so many samples give: whole ones and the rest."""
        config = self.log_mel
        windows, rest = divmod(config.heard_samples(num_samples), config.window_samples)
        tokens = windows * self.tokens_of(config.max_rows)
        return tokens + (self.tokens_of(encoder_rows(rest, config, alone=not windows)) if rest else 0)

    def _wave_tokens(self, wave: WaveEncoder, num_samples: int) -> int:
        return TOKEN_RULES[self.token_rule](self, wave.rows_of(num_samples))

    def decoder_rows(self, num_samples: int) -> int:
        """Rows of the decoder that stand for so many samples: the audio tokens, and the rows around them."""
        return self.audio_tokens(num_samples) + self.rows_around

    def parted(self, audio_rows: int, text_rows: int, profile: Profile) -> tuple[int, int]:
        """Rows of a prompt that a profile may reduce, and all others.

        Of the `audio_rows` of the decoder those around the audio tokens are among the others; the row before
        the tokens is reduced as well where the profile includes it.
        """
        before = int(profile.include_audio_bos)
        span, others = audio_rows - self.rows_around, text_rows + self.rows_around
        return span + before, max(0, others - before)

    @property
    def longest_samples(self) -> int | None:
        """The most samples that the model hears; None: as many as its decoder has positions for."""
        if self.most_windows is None:
            return self.log_mel.filled_samples
        return self.most_windows * self.log_mel.window_samples

    @property
    def longest_seconds(self) -> float | None:
        """The same in seconds."""
        samples = self.longest_samples
        return None if samples is None else samples / self.log_mel.sample_rate

    @property
    def shortest_samples(self) -> int:
        """The fewest samples that give a decoder row."""
        return bisect_left(range(self.log_mel.window_samples), 1, key=self.audio_tokens)

    def seconds_of(self, rows: int) -> float:
        """The longest audio, in seconds, that the model hears and that gives at most so many decoder rows.

        A last piece too short for a token of its own is not counted: rows stand for the seconds that they
        stand for in a whole window.
        """
        tokens = max(0, rows - self.rows_around)
        samples = max(self._samples_of_windows(tokens), self._place_in_wave(tokens))
        return min(samples, self.longest_samples or samples) / self.log_mel.sample_rate

    def _samples_of_windows(self, tokens: int) -> int:
        """The most samples whose windows give at most so many tokens, as `seconds_of` counts them."""
        window = self.log_mel.window_samples
        whole = tokens // self.window_tokens(window) * window

        def tokens_with(rest: int) -> int:
            return self.window_tokens(whole + rest)

        fitting = bisect_right(range(window), tokens, key=tokens_with) - 1  # samples
        return min(whole + fitting, self._place_in_windows(tokens))

    def begin_of(self, token: int) -> float:
        """Seconds from the beginning of the audio to where a token begins; 0 is the first one.

        Tokens are as long as those of a whole window, whatever a clip has of it: the last ones of a clip that
        is filled up begin behind its end.
        """
        return max(self._place_in_windows(token), self._place_in_wave(token)) / self.log_mel.sample_rate

    def _place_in_wave(self, token: int) -> int:
        """The sample at which a token of the wave encoder begins; 0 without one."""
        return token * self.rows_per_token * self.wave.step_samples if self.wave else 0

    def _place_in_windows(self, token: int) -> int:
        """The sample at which a token begins, if all of a window are as long."""
        window = self.log_mel.window_samples
        per_window = self.window_tokens(window)
        windows, left = divmod(token, per_window)
        return windows * window + left * window // per_window


TOKEN_RULES: dict[str, Callable[[FrontEnd, int], int]] = {
    "pooled": lambda front_end, rows: rows // front_end.rows_per_token * front_end.tokens_per_group,
    "begun": lambda front_end, rows: -(-rows // front_end.rows_per_token) * front_end.tokens_per_group,
}
"""Name -> audio tokens of one window of so many encoder rows, exact, and never fewer for more rows."""


def _faults(front_end: FrontEnd) -> Iterator[str]:
    least = {"rows_per_token": 1, "tokens_per_group": 1, "bos_rows": 0, "eos_rows": 0}
    wrong = list(count_faults(front_end, least, dict.fromkeys(least, MOST_ROWS)))
    if front_end.wave:
        sizes = dict.fromkeys(("first_samples", "step_samples", "window_width"), 1)
        wrong += [f"wave: {fault}" for fault in count_faults(front_end.wave, sizes)]
    if front_end.most_windows is not None:
        wrong += count_faults(front_end, {"most_windows": 1}, {"most_windows": MOST_ROWS})
    yield from wrong
    if front_end.token_rule not in TOKEN_RULES:
        yield f"token_rule {shown(front_end.token_rule)} is unknown (known: {', '.join(TOKEN_RULES)})"
    elif not wrong and not front_end.audio_tokens(front_end.log_mel.window_samples):
        yield f"a window of {front_end.log_mel.max_rows} encoder rows gives no audio token"
