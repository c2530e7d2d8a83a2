"""Read audio of any format, rate and channel count as mono float32 at the rate of the model."""

import io
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ...profiles.errors import AudioError

Array = npt.NDArray[np.float32]
Source = str | os.PathLike[str] | BinaryIO | bytes | npt.NDArray[Any]

REMEDY = "give a wav, flac, ogg or mp3 file"
BLOCK_FRAMES = 1 << 16  # frames decoded at once, so that only mono samples are kept
MAX_CHANNELS = 64  # more columns than this mean that an array is laid out the other way round
MAX_LEVEL = 2.0**31  # full scale is 1.0; unscaled 32-bit integers still fit, mel power does not overflow
MAX_RATE = 1 << 22  # Hz

# Array dtype (kind and bytes) -> the factor that makes full scale 1.0.
SCALE = {"f2": 1.0, "f4": 1.0, "f8": 1.0, "i2": 2.0**-15, "i4": 2.0**-31}

# Size fields at or above this are how writers to a pipe say "unknown".
UNKNOWN_SIZE = 0x7FFF0000
SHORT_CHUNK = re.compile(r"(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)")

# What may follow the last frame of an MP3 file.
MP3_TRAILERS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3")


@dataclass(frozen=True)
class Audio:
    """A mono waveform: `samples` (n,) float32, full scale 1.0, at `sample_rate` Hz."""

    samples: Array
    sample_rate: int

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / self.sample_rate


def load_audio(source: Source, sample_rate: int, *, source_rate: int | None = None) -> Audio:
    """Load `source` as mono float32 at `sample_rate` Hz: the mean of its channels, resampled by soxr (HQ).

    `source` is a path, the bytes of an audio file, a binary stream (read to its end), or an array (n,) or
    (n, channels) of floats with full scale 1.0, or of int16 or int32, which are divided by 2**15 or 2**31.
    `source_rate` is the rate of an array in Hz; without it, an array is taken to be at `sample_rate`.
    Files and streams carry their own rate.

    Raises `AudioError` for a source that is missing, empty, damaged or cut short, that is of an unknown
    format, or that holds samples which are not finite. MP3, Ogg, RF64 and W64 files that were cut short load
    as far as they go: libsndfile does not tell that they were longer.
    """
    _check_rate("sample_rate", sample_rate)
    if isinstance(source, np.ndarray):
        place, rate = place_of(source), sample_rate if source_rate is None else source_rate
        _check_rate("source_rate", rate)
        samples = _mono(_float_array(source))
    elif source_rate is not None:
        raise AudioError(f"source_rate {source_rate} is for arrays; a file or stream carries its own rate")
    else:
        place = place_of(source)
        with _open(source, place) as stream:
            samples, rate = _decode(stream, place)
    _check_samples(samples, rate, place)
    return Audio(_resample(samples, rate, sample_rate, place), sample_rate)


def _check_rate(name: str, rate: int) -> None:
    if not 1 <= rate <= MAX_RATE:
        raise AudioError(f"{name} {rate} is out of range; give a rate in Hz from 1 to {MAX_RATE}")


def _float_array(array: npt.NDArray[Any]) -> Array:
    """An array (n,) or (n, channels) as float32 with full scale 1.0."""
    if array.ndim not in (1, 2):
        raise AudioError(f"audio array of shape {array.shape}: give (n,) or (n, channels)")
    if array.ndim == 2 and not 1 <= array.shape[1] <= MAX_CHANNELS:
        raise AudioError(
            f"audio array of shape {array.shape} has {array.shape[1]} channels, not 1 to {MAX_CHANNELS}; "
            "give (n, channels), so transpose it if channels come first"
        )
    scale = SCALE.get(f"{array.dtype.kind}{array.dtype.itemsize}")
    if scale is None:
        raise AudioError(f"audio array of dtype {array.dtype}: give float32 (full scale 1.0), int16 or int32")
    with np.errstate(over="ignore"):  # _check_samples names the sample
        floats = array.astype(np.float32)
    return floats if scale == 1.0 else floats * np.float32(scale)


def _mono(frames: Array) -> Array:
    """(n,) or (n, channels) -> (n,): the mean of the channels."""
    if frames.ndim == 1:
        return frames
    if frames.shape[1] == 1:
        return frames[:, 0]
    with np.errstate(invalid="ignore", over="ignore"):  # _check_samples names the sample
        return np.asarray(frames.mean(axis=1, dtype=np.float32))


def place_of(source: Source) -> str:
    """How messages call the source."""
    if isinstance(source, np.ndarray):
        return "audio array"
    if isinstance(source, bytes):
        return "audio bytes"
    if isinstance(source, str | os.PathLike):
        return f"audio {os.fspath(source)}"
    return f"audio stream {getattr(source, 'name', '')}".rstrip()


def _open(source: str | os.PathLike[str] | BinaryIO | bytes, place: str) -> BinaryIO:
    """A seekable binary stream over a source that is not empty."""
    if isinstance(source, str | os.PathLike):
        return _open_file(Path(source), place)
    if not isinstance(source, bytes) and not hasattr(source, "read"):
        kind = type(source).__name__
        raise AudioError(f"audio of type {kind}: give a path, bytes, a binary stream or a NumPy array")
    data = source if isinstance(source, bytes) else source.read()
    if not isinstance(data, bytes):
        raise AudioError(f"{place}: the stream is open as text; open it with mode 'rb'")
    if not data:
        raise AudioError(f"{place} is empty (0 bytes); {REMEDY}")
    return io.BytesIO(data)


def _open_file(path: Path, place: str) -> BinaryIO:
    try:
        info = path.stat()
        if stat.S_ISFIFO(info.st_mode):
            return _open(path.read_bytes(), place)
        if stat.S_ISDIR(info.st_mode):
            raise AudioError(f"{place} is a folder; {REMEDY}")
        if not stat.S_ISREG(info.st_mode):
            raise AudioError(f"{place} is a device or socket; {REMEDY}")
        if not info.st_size:
            raise AudioError(f"{place} is empty (0 bytes); {REMEDY}")
        return path.open("rb")
    except FileNotFoundError:
        raise AudioError(f"{place} does not exist; {REMEDY}") from None
    except OSError as error:
        raise AudioError(
            f"{place} cannot be read: {error.strerror}; check its path and permissions"
        ) from None


def _decode(stream: BinaryIO, place: str) -> tuple[Array, int]:
    """Mono samples (n,) and their rate, of a stream in any format that libsndfile reads."""
    import soundfile

    if Path(getattr(stream, "name", "")).suffix.lower() == ".raw":
        raise AudioError(
            f"{place}: raw samples carry no rate; convert to wav, or pass an array with source_rate"
        )
    try:
        with soundfile.SoundFile(stream) as file:
            blocks = list(_blocks(file))
            _check_complete(file, sum(map(len, blocks)), stream, place)
            return np.concatenate(blocks) if blocks else np.empty(0, np.float32), file.samplerate
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip().removeprefix("Error : ").rstrip(".")
        raise AudioError(f"{place} is corrupt or of an unknown format ({reason}); {REMEDY}") from None


def _blocks(file: Any) -> Iterator[Array]:
    """The mono samples of an open sound file, a block at a time."""
    while len(frames := file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)):
        yield _mono(frames)


def _check_complete(file: Any, decoded: int, stream: BinaryIO, place: str) -> None:
    """Refuse a file whose header and content disagree, so that no audio is lost unseen."""
    if file.format == "MP3":  # its frame count may be an estimate, at which libsndfile stops
        rest = stream.read().strip(b"\0")
        if rest and not rest.startswith(MP3_TRAILERS):
            raise AudioError(
                f"{place}: {len(rest)} bytes follow the {decoded} samples of its header; convert it to wav"
            )
    for promised, found in SHORT_CHUNK.findall(file.extra_info):
        if int(found) < int(promised) < UNKNOWN_SIZE:
            raise AudioError(f"{place} is cut short: {found} of {promised} bytes; copy the whole file again")


def _check_samples(samples: Array, rate: int, place: str) -> None:
    """Refuse a waveform that is empty or holds a sample which is no audio level."""
    if not len(samples):
        raise AudioError(f"{place} holds no samples; give audio that is longer")
    if samples.min() >= -MAX_LEVEL and samples.max() <= MAX_LEVEL:
        return
    first = int(np.argmin(np.abs(samples) <= MAX_LEVEL))
    value = samples[first]
    fault = f"{value:g} exceeds {MAX_LEVEL:g}" if np.isfinite(value) else f"{value:g} is not finite"
    raise AudioError(
        f"{place}: sample {first} at {first / rate:.3f} s: {fault}; repair the recording (full scale is 1.0)"
    )


def _resample(samples: Array, rate: int, wanted: int, place: str) -> Array:
    """Samples (n,) at another rate."""
    if rate == wanted:
        return np.ascontiguousarray(samples)
    import soxr

    resampled = np.asarray(soxr.resample(samples, rate, wanted, quality="HQ"), dtype=np.float32)
    if not len(resampled):
        length = f"{len(samples)} sample(s) at {rate} Hz"
        raise AudioError(f"{place}: {length} make none at {wanted} Hz; give audio that is longer")
    return resampled
