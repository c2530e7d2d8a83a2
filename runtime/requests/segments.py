"""One request about every segment of a long recording, one after the other or several at once."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import numpy.typing as npt

from ...profiles.errors import RequestError
from ...profiles.faults import count_fault, seconds_fault, shown
from ..audio.read import Audio, Source, read_blocks
from ..decoding.options import ResolvedSearch
from ..latency import Stopwatch
from ..limits import at_most, ended_by, limit_of
from ..prompt import PromptIds
from ..segments.longest import longest_segment, longest_within
from ..segments.options import SegmentOptions
from ..segments.segments import Answer, Segments, answered
from ..segments.speech import Listener, Speech
from .answer import answer, streaming_codec, submitted
from .asked import Asked
from .check import checked
from .choice import most_costly
from .loaded import LoadedModel
from .prompt import prompt_ids
from .told import Tell, told, told_by_queue

LONGEST = "the longest segment (max_seconds, --max-segment-seconds)"  # as messages call it


def check_segmenting(
    segmenting: SegmentOptions, at_once: int, longest: float | None, tell: Tell | None
) -> None:
    """Refuse other than a record, a number of segments, seconds or none, a function or none; RequestError."""
    faults = list(count_fault("at_once", at_once, 1))
    if longest is not None:
        faults += seconds_fault("max_audio_seconds", longest)
    if faults:
        raise RequestError("; ".join(faults))
    if not isinstance(segmenting, SegmentOptions):
        raise RequestError(f"segmenting is {shown(segmenting)}: give a record of SegmentOptions")
    if tell is not None and not callable(tell):
        raise RequestError(f"tell is {shown(tell)}: give a function that takes a text")


def answered_segments(
    model: LoadedModel,
    asked: Asked,
    segmenting: SegmentOptions,
    at_once: int,
    max_audio_seconds: float | None,
    tell: Tell | None,
) -> Segments:
    """Find the speech in the audio of a request, and answer it about each segment.

    Args:
        model: what answers.
        asked: the request, which is checked now for the longest segment that there may be.
        segmenting: where segments begin and end.
        at_once: how many are under way at most; more than one are submitted.
        max_audio_seconds: longer audio is refused.
        tell: takes the text of the segments piece by piece, in their order.

    Raises:
        RequestError: as in `SpeechLM.segments`, and all others.
    """
    if tell is not None:
        streaming_codec(model, asked.search)
    ids = prompt_ids(model, asked.prompt, asked.system)
    name = model.profile_named(most_costly(model, asked.profile))
    rate, guard = model.sample_rate, asked.guard
    rules = segmenting.rules(_longest(model, ids, name, asked.search, segmenting.max_seconds))
    listener = Listener(rate, rules)
    source = cast("Source", asked.audio)  # all else is refused when it is read
    limit = limit_of(ended_by(guard), at_most(max_audio_seconds))
    blocks = read_blocks(source, rate, source_rate=asked.source_rate, check_length=limit)
    speech = asked.watch.each("audio", listener.listen(blocks))
    profile = asked.profile or name  # one that is to be chosen is chosen for each segment
    each = replace(asked, prompt=ids, system=None, profile=profile, source_rate=rate, shares=at_once > 1)

    def ask(part: Speech) -> Answer:
        watch = Stopwatch(guard.of_part())
        return _begun(model, replace(each, audio=_padded(model, part), watch=watch), tell)

    return Segments(answered(speech, ask, guard.own, at_once), listener, guard.own)


def _begun(model: LoadedModel, asked: Asked, tell: Tell | None) -> Answer:
    """What waits for the answer about one segment: submitted if it shares steps, or else run by then."""
    if tell is None:
        return submitted(model, asked).result if asked.shares else lambda: answer(model, asked)
    if asked.shares:
        return told_by_queue(model, asked, tell)
    return lambda: told(model, asked, tell)


def _padded(model: LoadedModel, part: Speech) -> npt.NDArray[np.float32]:
    """Samples (n,) that are enough for a token: the end of speech may have fewer."""
    least = model.manifest.front_end.shortest_samples
    return np.pad(part.samples, (0, max(0, least - len(part.samples))))


def _longest(
    model: LoadedModel, ids: PromptIds, profile: str, search: ResolvedSearch, asked: float | None
) -> float:
    """Seconds of a segment at most; refuses a request for which that is too long, or takes too much."""
    taken = checked(model, ids, profile, search, shorter="give it fewer seconds")
    longest = longest_segment(model.manifest, taken.engines, ids, search.max_new_tokens, asked)
    if asked is None:
        longest = longest_within(taken.memory, longest)
    taken.memory(LONGEST, longest)
    if taken.engines:
        silence = np.zeros(int(longest * model.sample_rate), np.float32)
        taken.check_engines(LONGEST, Audio(silence, model.sample_rate))
    return longest
