"""MPEG audio (mp3, mp2): every frame is looked at, so that a cut, a gap and a change of rate are seen.

libsndfile takes the length of a file from its tag, or guesses it from the first frame, and stops there. Here
frames are counted; the tag says whether they are all there, and which samples at both ends its encoder added.

libmpg123, inside libsndfile, writes to the C library's stderr about tags, gaps and frames that refer to what
is not there ("Xing stream size off", "part2_3_length too large"); libsndfile neither sets MPG123_QUIET nor
lets others set it. So the decoder is given nothing of the kind: frames alone, without tags, and silence for
frames at the start whose bits are missing. What it says of damaged bits in a frame goes nowhere (`quiet`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ..recording import Recording
from .decode import Block, Link, Piece, Stretch, decode
from .extent import STRAY, is_filling
from .mpeg_frames import (
    HEADER,
    Frame,
    Kind,
    Tag,
    is_free_format,
    parse_header,
    parse_side,
    parse_tag,
    silenced,
)
from .tags import before_trailing_tags, leading_tag

DECODER_DELAY = 529  # samples that every decoder of layer III is late
FLUSH_FRAMES = 2  # which encoders may write behind those that their tag counts
LEAD_IN = 1 << 16  # bytes in front of the first frame that are none
SEARCH = 1 << 20  # bytes behind a frame in which another is looked for


@dataclass
class Run:
    """Frames of one kind that follow one another."""

    kind: Kind
    samples: int  # of each frame
    frames: int = 0
    silenced: int = 0  # of them
    first_size: int = 0  # bytes
    main_bytes: int = 0  # so far, into which later frames may reach back
    size: int = 0  # bytes
    pieces: list[Piece] = field(default_factory=list)
    last: bytes = b""  # frame

    def append(self, at: int, content: bytes, frame: Frame, changed: bool) -> None:
        """Add the frame that stands at `at`."""
        self.first_size = self.first_size or len(content)
        before = self.pieces[-1] if self.pieces else b""
        if changed:
            self.pieces.append(silenced(content, frame))
            self.silenced += 1
        elif isinstance(before, Stretch) and before.end == at:
            self.pieces[-1] = Stretch(before.start, at + len(content))
        else:
            self.pieces.append(Stretch(at, at + len(content)))
        self.frames, self.size, self.last = self.frames + 1, self.size + len(content), content
        self.main_bytes += len(content) - frame.side.stop


@dataclass
class Stream:
    """What an encoder has written in one go: a tag, if it writes one, and frames."""

    tag: Tag | None = None
    tag_bytes: int = 0
    runs: list[Run] = field(default_factory=list)

    @property
    def frames(self) -> int:
        """All of them, without the tag."""
        return sum(run.frames for run in self.runs)

    @property
    def is_known(self) -> bool:
        """Whether the tag says how long the stream is."""
        return self.tag is not None and bool(self.tag.frames or self.tag.total_bytes)

    @property
    def is_whole(self) -> bool:
        """Whether all is there that the tag promises."""
        if self.tag is None or not self.is_known:
            return False
        found = self.tag_bytes + sum(run.size for run in self.runs)
        enough = self.tag.frames and self.frames >= self.tag.frames - (not self.tag.exact)
        return bool(enough or (self.tag.total_bytes and found >= self.tag.total_bytes))

    def run_of(self, frame: Frame) -> Run:
        """The run to which the next frame belongs."""
        if not self.runs or self.runs[-1].kind != frame.kind:
            self.runs.append(Run(frame.kind, frame.samples))
        return self.runs[-1]


def blocks(recording: Recording, start: int, end: int | None = None) -> Iterator[Block]:
    """The audio of an mp3 file, and of those that were appended to it."""
    streams = scan(recording, start, before_trailing_tags(recording, start) if end is None else end)
    return decode(recording, [link for stream in streams for link in _links(stream)])


def is_mpeg(recording: Recording, start: int) -> bool:
    """Whether frames begin at `start`, or close behind it."""
    return find_first(recording, start) is not None or is_free_format(recording.peek(start, HEADER))


def find_first(recording: Recording, start: int) -> int | None:
    """Where the first frame stands: at `start` or, where three follow one another, behind a little else."""
    head = parse_header(recording.peek(start, HEADER))
    if head and (start + head.size >= recording.size or follow(recording, start, 1)):
        return start
    return search(recording, start + 1, min(start + LEAD_IN, recording.size))


def search(recording: Recording, start: int, end: int, last: int | None = None) -> int | None:
    """The first place from `start` to `end` where three frames of a kind follow, or fewer up to `last`."""
    at = start
    while at < end and (window := recording.peek(at, min(1 << 12, end - at))):
        found = window.find(b"\xff")
        if found >= 0 and follow(recording, at + found, 2, last):
            return at + found
        at += found + 1 if found >= 0 else len(window)
    return None


def follow(recording: Recording, at: int, count: int, end: int | None = None) -> bool:
    """Whether a frame stands at `at` and `count` of its kind behind it, or fewer up to `end`."""
    first = frame = parse_header(recording.peek(at, HEADER))
    for _ in range(count):
        if first is None or frame is None or frame.kind != first.kind:
            return False
        at += frame.size
        if at == end:
            return True
        frame = parse_header(recording.peek(at, HEADER))
    return first is not None and frame is not None and frame.kind == first.kind


def scan(recording: Recording, start: int, end: int) -> list[Stream]:
    """All frames from `start` to `end`.

    Raises `AudioError` where some are missing: at the end, or in the middle.
    """
    first = find_first(recording, start)
    if first is None:
        raise recording.error("is mp3 of free format, which is not read; convert it to wav")
    streams, at = [Stream()], first
    while at < end:
        frame = _frame_at(recording, streams[-1], at, end)
        if frame is None:
            at = _pass_over(recording, streams, at, end)
        elif at + frame.size > end:
            _check_end(recording, streams[-1])
            break
        else:
            _take(recording, streams, at, frame)
            at += frame.size
    for stream in streams:
        if stream.is_known:
            _check_end(recording, stream)
    return streams


def _frame_at(recording: Recording, stream: Stream, at: int, end: int) -> Frame | None:
    """The frame at `at`; one of a new kind must be followed by others, or end the file."""
    frame = parse_header(recording.peek(at, HEADER))
    if frame and stream.runs and frame.kind != stream.runs[-1].kind:
        return frame if follow(recording, at, 1, end) else None
    return frame


def _pass_over(recording: Recording, streams: list[Stream], at: int, end: int) -> int:
    """Where the next frame may stand, `end` if nowhere."""
    if size := leading_tag(recording, at):
        return min(at + size, end)
    found = search(recording, at + 1, min(end, at + SEARCH), end)
    stream = streams[-1]
    if found is None and (stream.is_whole or is_filling(recording.peek(at, min(end - at, STRAY + 1)))):
        return end
    if found is None and end - at < HEADER:
        raise recording.cut_short("it ends in the header of a frame")
    if found is None or not stream.is_whole:
        raise recording.damaged(f"no frames from byte {at} to {found or end}")
    streams.append(Stream())
    return found


def _take(recording: Recording, streams: list[Stream], at: int, frame: Frame) -> None:
    content = recording.peek(at, frame.size)
    if tag := parse_tag(content, frame):
        recording.check_length(tag.frames * frame.samples, frame.kind.rate)
        streams.append(Stream(tag, frame.size))
        return
    run = streams[-1].run_of(frame)
    run.append(at, content, frame, _must_be_silenced(recording, run, at, content, frame))
    if not run.frames % 256:
        recording.check_length(run.frames * frame.samples, run.kind.rate)


def _must_be_silenced(recording: Recording, run: Run, at: int, content: bytes, frame: Frame) -> bool:
    """Whether bits of a frame stood in frames before the first one of the file."""
    if frame.kind.layer != 3:
        return False
    side = parse_side(content, frame)
    if side is None or side.bits > 8 * (side.bytes_before + frame.size - frame.side.stop):
        raise recording.damaged(f"the frame at byte {at} makes no sense")
    if side.bytes_before <= run.main_bytes:
        return False
    if run.silenced < run.frames:
        raise recording.damaged(f"frames are missing before byte {at}")
    return True


def _check_end(recording: Recording, stream: Stream) -> None:
    if stream.is_whole:
        return
    if stream.tag and stream.is_known:
        promised = f" of {stream.tag.frames}" if stream.tag.frames else ""
        raise recording.cut_short(f"{stream.frames}{promised} frames")
    raise recording.cut_short(f"its last frame, behind {stream.frames} whole ones, does not end")


def _links(stream: Stream) -> Iterator[Link]:
    """One link for each run, without what the encoder has added at both ends."""
    tag = stream.tag if stream.tag and stream.tag.delay is not None else None
    beyond = stream.frames - tag.frames if tag and tag.frames else 0
    for run in stream.runs:
        skip = take = 0
        if tag and tag.delay is not None and run is stream.runs[0]:
            skip = tag.delay + DECODER_DELAY
        take = run.frames * run.samples - skip
        if tag and run is stream.runs[-1] and 0 <= beyond <= FLUSH_FRAMES:
            take -= beyond * run.samples + max(0, tag.padding - DECODER_DELAY)
        if take > 0:
            yield Link((*run.pieces, *_filling(run)), skip=skip, take=take, silence=True)


def _filling(run: Run) -> tuple[bytes, bytes]:
    """Bytes that are never decoded: libmpg123 guesses from the first frame and all bytes where to stop."""
    guess = (run.frames + 2) * (run.first_size + 1)
    return run.last * 2, bytes(max(0, guess - run.size))
