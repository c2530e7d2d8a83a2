"""The features of an encoder that hears a whole clip at once: settings, and how many rows a clip gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...profiles.errors import ArtifactError
from ...profiles.faults import count_faults, is_count, shown

LOG_MEL_PAIRS, STACKED_FBANK = "log_mel_pairs", "stacked_fbank"
KINDS = (LOG_MEL_PAIRS, STACKED_FBANK)
LONGEST = 2**31  # samples of a clip whose features have no limit of their own
LARGEST = {
    "sample_rate": 2**20,
    "n_fft": 2**16,
    "win_length": 2**16,
    "hop_length": 2**16,
    "num_bands": 2**12,
    "stacked": 2**8,
    "stride": 2**8,
}
"""Field -> the largest number that any such features could mean."""


@dataclass(frozen=True)
class ClipFeatures:
    """Frames of a whole clip, some of them side by side in each row of the encoder.

    `kind` is one of KINDS: "log_mel_pairs", centred frames whose log-mel is cut below the loudest of the clip
    (`log_mel_pairs.py`), or "stacked_fbank", frames inside of the clip as Kaldi has them (`fbank.py`). Where
    `LogMelConfig` speaks of windows, the clip is the only one.

    Raises `ArtifactError` when a field is out of range.
    """

    kind: str
    sample_rate: int = 16000  # Hz
    n_fft: int = 512  # samples in the Fourier domain
    win_length: int = 400  # samples of a frame
    hop_length: int = 160  # samples
    num_bands: int = 80  # mel filters
    stacked: int = 2  # frames side by side in a row
    stride: int = 2  # frames from one row to the next
    most_rows: int | None = None  # None: as many as the decoder has positions for

    def __post_init__(self) -> None:
        if faults := list(_faults(self)):
            raise ArtifactError(f"features of clips: {'; '.join(faults)}; build the artifact again")

    full_windows = has_audio_alone = False  # clips are never filled up, and rows are frames
    cuts = "never"
    filled_samples = None
    frames_per_row = 1  # of the encoder's input, whose frames are stacked already

    @property
    def in_words(self) -> str:
        """As tables say it."""
        longest = "" if self.most_rows is None else f" of at most {self.window_seconds:.1f} s"
        return f"{self.sample_rate} Hz, rows of {self.num_mel_bins} numbers, whole clips{longest}"

    @property
    def num_mel_bins(self) -> int:
        """Numbers of one row."""
        return self.num_bands * self.stacked

    @property
    def window_samples(self) -> int:
        """Samples of the longest clip."""
        if self.most_rows is None:
            return LONGEST
        frames = self.most_rows * self.stride
        if self.kind == LOG_MEL_PAIRS:
            return min(LONGEST, (frames + self.stride - 1) * self.hop_length - 1)
        return min(LONGEST, self.win_length + frames * self.hop_length - 1)

    @property
    def window_seconds(self) -> float:
        """The same in seconds."""
        return self.window_samples / self.sample_rate

    @property
    def max_frames(self) -> int:
        """Rows of the longest clip."""
        return self.rows_of_samples(self.window_samples)

    @property
    def max_rows(self) -> int:
        """The same."""
        return self.max_frames

    def heard_samples(self, num_samples: int) -> int:
        """Samples of a clip that the encoder hears."""
        return num_samples

    def rows_of_samples(self, num_samples: int) -> int:
        """Rows of a clip; 0 where it is too short for one."""
        frames = self.frames_of_samples(num_samples)
        if self.kind == LOG_MEL_PAIRS:
            return frames // self.stride  # a frame without its pair is left out
        return -(-frames // self.stride)

    def frames_of_samples(self, num_samples: int) -> int:
        """Frames before they are stacked."""
        if self.kind == LOG_MEL_PAIRS:
            too_short = num_samples <= self.n_fft // 2  # to be mirrored at its ends
            return 0 if too_short else num_samples // self.hop_length + 1
        return max(0, (num_samples - self.win_length) // self.hop_length + 1)

    def rows_of(self, frames: int) -> int:
        """Rows of so many frames of the encoder's input."""
        return frames

    def least_frames_of(self, rows: int) -> int:
        """Frames of the encoder's input that give so many rows."""
        return rows

    def frames_of(self, rows: int) -> int:
        """Frames of the encoder's input that the encoder reads for so many rows."""
        return rows


def _faults(features: ClipFeatures) -> Iterator[str]:
    yield from count_faults(features, dict.fromkeys(LARGEST, 1), LARGEST)
    if features.kind not in KINDS:
        yield f"kind {shown(features.kind)} is unknown (known: {', '.join(KINDS)})"
    if features.most_rows is not None and not is_count(features.most_rows, 1):
        yield f"most_rows is {shown(features.most_rows)}: a whole number above 0 is expected"
    if features.win_length > features.n_fft or features.n_fft % 2:
        yield f"n_fft {features.n_fft} must be even and at least win_length {features.win_length}"
