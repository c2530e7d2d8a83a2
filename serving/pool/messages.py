"""What server and workers tell each other through their pipes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...profiles.errors import FastAdaSPError
from ...runtime.alignment.word_times import Word
from ...runtime.choice.target import Auto
from ...runtime.decoding.options import SearchOptions
from ...runtime.decoding.search import FinishReason
from ...runtime.segments.options import SegmentOptions

DEFAULT_SEGMENTS = SegmentOptions()
Form = Literal["whole", "segments", "either"]
"""Audio answered in one request of the model; in segments; or whole, and in segments where it is long."""


@dataclass(frozen=True)
class Asked:
    """A request, all of it checked but for its audio, which nobody has looked at yet."""

    profile: str  # or `AUTO`
    prompt: str | None
    system: str | None
    search: SearchOptions
    form: Form
    in_pieces: bool = False  # whether text is told as it is found
    segmenting: SegmentOptions = DEFAULT_SEGMENTS
    auto: Auto | None = None  # what a profile is chosen for; None: it is named


@dataclass(frozen=True)
class Ask:
    """A request for a worker."""

    number: int
    asked: Asked
    until: float  # its deadline, by the clock that all processes of a machine have (`time.monotonic`)
    audio: bytes | None  # None: the descriptor of a file follows in the pipe


@dataclass(frozen=True)
class Cancel:
    """The answer is not wanted any more; one that has ended meanwhile is no fault."""

    number: int


@dataclass(frozen=True)
class Facts:
    """What is known of a model once it is loaded."""

    device: str
    whole_seconds: float  # of audio that is answered whole
    request_bytes: int  # that a request with so much audio adds at most, by greedy search


@dataclass(frozen=True)
class Ready:
    """The artifact is loaded."""

    facts: Facts


@dataclass(frozen=True)
class Unloadable:
    """The artifact cannot be loaded."""

    error: FastAdaSPError


@dataclass(frozen=True)
class Alive:
    """The process goes on; it says so now and then, whatever else it does."""


@dataclass(frozen=True)
class Began:
    """Audio and request are fine: from now on only the server can fail."""

    number: int
    profile: str
    reason: str | None  # why this profile was chosen, if the client did not name it


@dataclass(frozen=True)
class Piece:
    """Text that was found; joined, pieces are the text of the answer."""

    number: int
    text: str


@dataclass(frozen=True)
class TimedText:
    """A segment of long audio with its answer."""

    start: float  # seconds from the beginning
    end: float
    text: str
    tokens: tuple[int, ...]
    mean_log_probability: float  # of the tokens, an end token included
    words: tuple[Word, ...]  # with begins as above; none where the artifact has no word heads


@dataclass(frozen=True)
class SegmentFound:
    """One more segment, in order."""

    number: int
    segment: TimedText


@dataclass(frozen=True)
class Answer:
    """The whole answer."""

    profile: str
    text: str
    finish_reason: FinishReason  # of segments: "length" if one of them was cut
    audio_seconds: float
    prompt_tokens: int  # rows of text and audio before any is removed
    output_tokens: int
    step_seconds: float | None  # decode time / steps; None without steps


@dataclass(frozen=True)
class Ended:
    """A request has its answer."""

    number: int
    answer: Answer


@dataclass(frozen=True)
class Failed:
    """A request has none."""

    number: int
    error: FastAdaSPError


Event = Began | Piece | SegmentFound | Ended | Failed
"""Of one request; the last one is `Ended` or `Failed`."""
FromWorker = Ready | Unloadable | Alive | Event
ToWorker = Ask | Cancel | None
"""None: there is no more to do."""
