"""The audio tower as data: how samples become rows of the decoder."""

from __future__ import annotations

from dataclasses import dataclass

from .log_mel import LogMelConfig, encoder_rows

ENCODER_ROWS_A_TOKEN = 2


@dataclass(frozen=True)
class FrontEnd:
    """From samples to audio rows: the log-mel parameters, and which rows of the encoder are not frames."""

    log_mel: LogMelConfig
    bos_rows: int = 0  # rows that the encoder graph sets before the audio frames
    eos_rows: int = 0  # and after them

    def audio_frames(self, num_samples: int) -> int:
        """Decoder rows that come from so many samples: those of whole windows and of the rest."""
        config = self.log_mel
        whole, rest = divmod(num_samples, config.window_samples)
        frames = whole * (encoder_rows(config.window_samples, config) // ENCODER_ROWS_A_TOKEN)
        return frames + (encoder_rows(rest, config) // ENCODER_ROWS_A_TOKEN if rest else 0)

    def seconds_of(self, rows: int) -> float:
        """The longest audio, in seconds, that gives at most so many decoder rows."""
        frames = max(0, rows - self.bos_rows - self.eos_rows)
        samples_a_row = 2 * ENCODER_ROWS_A_TOKEN * self.log_mel.hop_length
        return frames * samples_a_row / self.log_mel.sample_rate
