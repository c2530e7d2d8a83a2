"""Turn a waveform into the log-mel windows of a Whisper-style encoder, computing only the frames it reads."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ...profiles.errors import ArtifactError, AudioError
from ...profiles.faults import count_faults, shown

Array = npt.NDArray[np.float32]

LARGEST = {
    "sample_rate": 2**20,
    "n_fft": 2**16,
    "hop_length": 2**16,
    "num_mel_bins": 2**12,
    "frames_per_row": 2**10,
    "chunk_frames": 2**16,
    "least_samples": 2**24,
}
"""Field -> the largest number that any front end could mean."""

MAY_BE_ZERO = ("chunk_frames", "least_samples")

LONGEST_WINDOW = 3600  # seconds
LONGEST_CLIP = 10**6  # seconds
LARGEST_WINDOW = 2**28  # numbers of its log-mel frames: a gigabyte
EDGES = ("padded", "zero", "cut")
CUTS = ("never", "alone", "always")
WINDOW, JOINED, CLIP, FILLED = "window", "joined windows", "clip", "filled clip"
EXTENTS = (WINDOW, JOINED, CLIP, FILLED)
MAX_FREQUENCY = 8000.0  # Hz; Whisper's filters end here at every sample rate
SILENCE = -10.0  # log10 of the smallest mel power that is told apart from nothing
DYNAMIC_RANGE = 8.0  # log10 units kept below the loudest value of a window
CHUNK_FRAMES = 512  # frames that are in the Fourier domain at once
FEW_FRAMES = 8  # so small a product that OpenBLAS starts no threads for it
EDGE_FRAMES = 2  # that the encoder's convolutions may read beyond those of its last row


@dataclass(frozen=True)
class LogMelConfig:
    """Parameters of the front end, as the manifest keeps them.

    `edge` says what the encoder's convolution meets after the last frame of the audio: "padded", the frames
    of a window filled up with silence, as Whisper does; "zero", nothing but zeros; or "cut", zeros where the
    last samples have no frame, if they are fewer than `hop_length`.

    `extent` says of what the frames are computed, and so what is mirrored at its ends and whose loudest value
    counts: "window", each window alone, filled up with silence; "joined windows", all of them as one; "clip",
    the clip as it is, whose last samples have no frame where they are fewer than `hop_length`; "filled clip",
    the clip filled up with silence to `filled_seconds`. Of the last two, windows hold frames of audio alone.

    Raises `ArtifactError` when a parameter is out of range.
    """

    sample_rate: int = 16000  # Hz
    n_fft: int = 400  # samples
    hop_length: int = 160  # samples
    num_mel_bins: int = 128
    window_seconds: float = 30  # a whole number of samples
    edge: str = "padded"
    frames_per_row: int = 2  # of the encoder: the stride of its convolutions
    full_windows: bool = False  # whether the silence that fills up a window is encoded, too
    cuts: str = "never"  # of which full windows just the rows of their audio are kept: one of CUTS
    extent: str = WINDOW  # one of EXTENTS
    chunk_frames: int = 0  # after so many frames convolutions and positions begin anew; 0: in each window
    least_samples: int = 0  # a shorter clip is filled up with silence, which counts as audio
    filled_seconds: float | None = None  # of a filled clip; no longer one is heard

    def __post_init__(self) -> None:
        least = {name: int(name not in MAY_BE_ZERO) for name in LARGEST}
        faults = list(count_faults(self, least, LARGEST))
        if not 0 < self.window_seconds <= LONGEST_WINDOW:
            faults.append(f"window_seconds is {shown(self.window_seconds)}: give at most {LONGEST_WINDOW}")
            raise _error(faults)
        if self.edge not in EDGES:
            faults.append(f"edge {shown(self.edge)} is unknown (known: {', '.join(EDGES)})")
        faults += _extent_faults(self)
        if self.n_fft % 2 or self.n_fft < self.hop_length:
            faults.append(f"n_fft {self.n_fft} must be even and at least hop_length {self.hop_length}")
        if self.window_samples <= self.n_fft:
            faults.append(f"a window of {self.window_samples} samples must exceed n_fft {self.n_fft}")
        if not faults and self.num_mel_bins * self.max_frames > LARGEST_WINDOW:
            faults.append(
                f"a window of {self.max_frames} frames of {self.num_mel_bins} mel bins takes more than "
                f"{LARGEST_WINDOW} numbers"
            )
        if faults:
            raise _error(faults)

    @property
    def in_words(self) -> str:
        """As tables say it."""
        window = f"windows of {self.window_seconds:g} s"
        return f"{self.sample_rate} Hz, {self.num_mel_bins} mel bins, {window}"

    @property
    def has_audio_alone(self) -> bool:
        """Whether windows hold the frames of audio and no others."""
        return self.extent in (CLIP, FILLED)

    @property
    def window_samples(self) -> int:
        """Samples of one full encoder window."""
        return round(self.window_seconds * self.sample_rate)

    @property
    def filled_samples(self) -> int | None:
        """Samples of a filled clip."""
        return None if self.filled_seconds is None else round(self.filled_seconds * self.sample_rate)

    @property
    def max_frames(self) -> int:
        """Mel frames of one full encoder window."""
        return self.window_samples // self.hop_length

    @property
    def max_rows(self) -> int:
        """Encoder rows of one full encoder window."""
        return self.rows_of(self.max_frames)

    def rows_of(self, frames: int) -> int:
        """Encoder rows that carry so many mel frames."""
        if not self.chunk_frames:
            return -(-frames // self.frames_per_row)
        chunks, rest = divmod(frames, self.chunk_frames)
        return chunks * self.chunk_rows - (-rest // self.frames_per_row)

    @property
    def chunk_rows(self) -> int:
        """Encoder rows of a whole chunk."""
        return -(-self.chunk_frames // self.frames_per_row)

    def least_frames_of(self, rows: int) -> int:
        """The fewest mel frames that give so many encoder rows, at least 1."""
        chunks, rest = divmod(rows - 1, self.chunk_rows) if self.chunk_frames else (0, rows - 1)
        return chunks * self.chunk_frames + rest * self.frames_per_row + 1

    def frames_of(self, rows: int) -> int:
        """The most mel frames that the encoder reads for its first `rows` rows."""
        if self.chunk_frames:
            return min(self.max_frames, self.least_frames_of(rows + 1) - 1)
        beyond = EDGE_FRAMES if self.edge == "padded" else 0
        return min(self.max_frames, self.frames_per_row * rows + beyond)

    def audio_frames(self, num_samples: int) -> int:
        """Mel frames that carry so many samples of audio."""
        drops_rest = self.extent == CLIP or self.edge == "cut"
        return num_samples // self.hop_length if drops_rest else -(-num_samples // self.hop_length)

    def heard_samples(self, num_samples: int) -> int:
        """Samples of a clip with the silence that counts as audio; none of an empty one."""
        return max(num_samples, self.least_samples) if num_samples else 0


def _extent_faults(config: LogMelConfig) -> Iterator[str]:
    """What is wrong with the fields that say which frames there are."""
    for name, known in (("cuts", CUTS), ("extent", EXTENTS)):
        if (value := getattr(config, name)) not in known:
            yield f"{name} {shown(value)} is unknown (known: {', '.join(known)})"
    if (config.extent == FILLED) != (config.filled_seconds is not None):
        yield f"filled_seconds {shown(config.filled_seconds)} does not fit extent {shown(config.extent)}"
    if config.filled_seconds is not None and not 0 < config.filled_seconds <= LONGEST_CLIP:
        yield f"filled_seconds is {shown(config.filled_seconds)}: give at most {LONGEST_CLIP}"
    if config.extent == JOINED and (config.cuts != "never" or not config.full_windows):
        yield "joined windows are full ones, of which none is cut"
    if not config.has_audio_alone:
        return
    if config.full_windows or config.edge != "zero":
        yield f"extent {config.extent!r} takes edge 'zero' and no full windows"
    if config.hop_length and config.window_samples % (config.hop_length * max(1, config.chunk_frames)):
        yield f"a window of {config.window_samples} samples is no whole number of chunks of frames"
    if config.extent == CLIP and config.least_samples <= config.n_fft // 2:
        yield f"least_samples {config.least_samples} must exceed half of n_fft, which is mirrored at the ends"


def _error(faults: list[str]) -> ArtifactError:
    return ArtifactError(f"log-mel front end: {'; '.join(faults)}; build the artifact again")


@dataclass(frozen=True)
class MelWindow:
    """One encoder window: the frames that its audio needs, and the encoder rows that carry the audio."""

    mel: Array  # (num_mel_bins, frames)
    encoder_rows: int  # rows after the convolutions


def encoder_rows(num_samples: int, config: LogMelConfig, alone: bool = True) -> int:
    """Encoder rows of a window with 1 to `window_samples` samples of audio: those that carry it, or all.

    `alone` says whether it is the only window of its clip.
    """
    cut = config.cuts == "always" or (config.cuts == "alone" and alone)
    if config.full_windows and not cut:
        return config.max_rows
    return config.rows_of(min(config.audio_frames(num_samples), config.max_frames))


def log_mel_windows(samples: npt.ArrayLike, config: LogMelConfig) -> Iterator[MelWindow]:
    """Cut a waveform into encoder windows and yield the log-mel frames of each.

    `samples` is (n,) at `config.sample_rate`, full scale 1.0. Every window equals what Whisper's feature
    extractor gives for that piece of audio alone, filled up with silence. Of those frames the first
    `config.frames_of(encoder_rows)` are returned, all that the encoder's two convolutions (kernel 3, strides
    1 and `frames_per_row`) read for its first `encoder_rows` rows; or all, where windows are full. Cost and
    memory follow the length of the audio, unless windows are full. Where frames are not those of each window
    alone, windows are pieces of them.

    Raises `AudioError` for a waveform that is empty or not one-dimensional.
    """
    wave = np.asarray(samples, dtype=np.float32)
    if wave.ndim != 1 or not len(wave):
        raise AudioError(f"log-mel: a waveform of shape {wave.shape} must be (n,) with at least one sample")
    if config.extent != WINDOW:
        return _pieces(wave, config)
    size = config.window_samples
    alone = len(wave) <= size
    return (_window(wave[at : at + size], config, alone) for at in range(0, len(wave), size))


@lru_cache(maxsize=8)
def mel_filters(config: LogMelConfig) -> Array:
    """Triangular filters on Slaney's mel scale with Slaney's norm: (num_mel_bins, n_fft // 2 + 1), read-only.

    Formula: M. Slaney, Auditory Toolbox (1998), as in librosa's `filters.mel`.
    """
    top = _hertz_to_mel(MAX_FREQUENCY)
    edges = _mel_to_hertz(np.linspace(0.0, top, config.num_mel_bins + 2))  # Hz
    bins = np.linspace(0.0, config.sample_rate // 2, config.n_fft // 2 + 1)  # Hz
    width = np.diff(edges)
    rising = (bins - edges[:-2, None]) / width[:-1, None]
    falling = (edges[2:, None] - bins) / width[1:, None]
    unit_area = 2.0 / (edges[2:] - edges[:-2])
    filters = np.maximum(0.0, np.minimum(rising, falling)) * unit_area[:, None]
    result = filters.astype(np.float32)
    result.flags.writeable = False  # shared by every caller
    return result


def _hertz_to_mel(hertz: float) -> float:
    """Slaney's scale: 3/200 mel a hertz up to 1 kHz, above it 27 mel for a factor of 6.4."""
    return 15.0 + 27.0 * math.log(hertz / 1000.0) / math.log(6.4) if hertz > 1000.0 else hertz * 3.0 / 200.0


def _mel_to_hertz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(mel < 15.0, mel * 200.0 / 3.0, 1000.0 * 6.4 ** ((mel - 15.0) / 27.0))


def _pieces(wave: Array, config: LogMelConfig) -> Iterator[MelWindow]:
    """The frames of a whole clip, window by window; what is loudest in it bounds all of them."""
    heard = np.zeros(config.heard_samples(len(wave)), dtype=np.float32)
    heard[: len(wave)] = wave
    power = _log_mel_power(heard, config)
    floor = max(power.max() - np.float32(DYNAMIC_RANGE), np.float32(SILENCE))
    frames = config.audio_frames(len(heard))
    if config.extent == JOINED:
        frames = _whole_samples(heard, config) // config.hop_length
    for at in range(0, frames, config.max_frames):
        end = min(at + config.max_frames, frames)
        mel = np.full((config.num_mel_bins, end - at), floor, dtype=np.float32)
        loud = power[:, at:end]
        np.maximum(loud, floor, out=mel[:, : loud.shape[1]])
        yield MelWindow((mel + np.float32(4.0)) / np.float32(4.0), config.rows_of(end - at))


def _window(piece: Array, config: LogMelConfig, alone: bool) -> MelWindow:
    """The returned frames of one piece of at most `window_samples` samples."""
    rows = encoder_rows(len(piece), config, alone)
    frames = config.max_frames if config.full_windows else config.frames_of(rows)
    power = _log_mel_power(piece, config)
    floor = power.max() - np.float32(DYNAMIC_RANGE)
    mel = np.full((config.num_mel_bins, frames), max(floor, np.float32(SILENCE)), dtype=np.float32)
    heard = power[:, :frames]
    np.maximum(heard, floor, out=mel[:, : heard.shape[1]])
    return MelWindow((mel + np.float32(4.0)) / np.float32(4.0), rows)


def _log_mel_power(piece: Array, config: LogMelConfig) -> Array:
    """log10 of the mel power of every frame that touches the audio: (num_mel_bins, touched).

    All later frames of the window or clip are SILENCE, so they cannot raise its maximum.
    """
    whole = _whole_samples(piece, config)
    touched = min(whole // config.hop_length, -(-(len(piece) + config.n_fft // 2) // config.hop_length))
    padded = _reflect(piece, touched, whole, config)
    frames = np.lib.stride_tricks.sliding_window_view(padded, config.n_fft)[:: config.hop_length]
    window, filters = hann(config.n_fft), mel_filters(config).T
    power = np.empty((config.num_mel_bins, touched), dtype=np.float32)
    for at in range(0, touched, CHUNK_FRAMES):
        spectrum = np.fft.rfft(frames[at : at + CHUNK_FRAMES] * window)  # (chunk, n_fft // 2 + 1)
        energy = (spectrum.real**2 + spectrum.imag**2).astype(np.float32, copy=False)
        power[:, at : at + CHUNK_FRAMES] = _product(energy, filters).T
    return np.log10(np.maximum(power, np.float32(10.0**SILENCE)))


def _product(energy: Array, filters: Array) -> Array:
    """energy (frames, bins) times filters (bins, mel bins), in this thread alone.

    OpenBLAS would take all cores for a product of milliseconds, and keep them busy for long after it.
    """
    whole = len(energy) - len(energy) % FEW_FRAMES
    pieces = energy[:whole].reshape(-1, FEW_FRAMES, energy.shape[1]) @ filters
    return np.concatenate([pieces.reshape(whole, filters.shape[1]), energy[whole:] @ filters])


def _whole_samples(piece: Array, config: LogMelConfig) -> int:
    """Samples of the signal that is filled up with silence after `piece`, and then mirrored at its end."""
    if config.extent == CLIP:
        return len(piece)
    if config.filled_samples is not None:
        return max(config.filled_samples, len(piece))
    windows = -(-len(piece) // config.window_samples) if config.extent == JOINED else 1
    return windows * config.window_samples


def _reflect(piece: Array, frames: int, whole: int, config: LogMelConfig) -> Array:
    """The samples under the first `frames` centred frames of the `whole` signal that `piece` opens.

    It is mirrored at both ends without repeating the end sample, as `torch.stft` does.
    """
    half = config.n_fft // 2
    padded = np.zeros((frames - 1) * config.hop_length + config.n_fft, dtype=np.float32)
    body = piece[: len(padded) - half]
    padded[half : half + len(body)] = body
    mirrored = piece[half:0:-1]
    padded[half - len(mirrored) : half] = mirrored
    if (beyond := len(padded) - half - whole) > 0:
        last = half + whole - 1
        padded[last + 1 :] = padded[last - beyond : last][::-1]
    return padded


@lru_cache(maxsize=8)
def hann(size: int) -> Array:
    """Periodic Hann window (size,), read-only."""
    window = (0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(size) / size)).astype(np.float32)
    window.flags.writeable = False
    return window
