"""How long a segment may be, so that the model hears it at once."""

from __future__ import annotations

from ...profiles.errors import RequestError, RequestMemoryError
from ..artifact.engines import Engines
from ..artifact.manifest import Manifest
from ..audio.recording import CheckLength
from ..prompt import PromptIds
from .options import FRAME_SECONDS, LEAST_SECONDS, LONGEST_SECONDS


def longest_unasked(manifest: Manifest) -> float:
    """Seconds that a segment may have where the positions, or the engines, hold as much."""
    return min(manifest.front_end.log_mel.window_seconds, LONGEST_SECONDS)


def longest_segment(
    manifest: Manifest, engines: Engines | None, ids: PromptIds, max_new_tokens: int, asked: float | None
) -> float:
    """Seconds that a segment of long audio may have: what is asked for, or a window, or `LONGEST_SECONDS`.

    Raises:
        RequestError: the positions, or the engines, hold less than that beside prompt and answer.
    """
    rows = manifest.decoder.max_positions - ids.num_text_rows - max_new_tokens
    held = manifest.front_end.seconds_of(min(rows, engines.max_audio_rows) if engines else rows)
    longest = min(longest_unasked(manifest), held) if asked is None else asked
    if LEAST_SECONDS <= longest <= held:
        return longest
    beside = f"{ids.num_text_rows} tokens of prompt and max_new_tokens {max_new_tokens}"
    raise RequestError(
        f"segments of {max(longest, LEAST_SECONDS):g} s: beside {beside} the model holds {held:.1f} s of "
        f"audio; give segments of less, but at least {LEAST_SECONDS:g} s (max_seconds, "
        "--max-segment-seconds), or ask for fewer tokens"
    )


def longest_within(memory: CheckLength, longest: float) -> float:
    """Seconds up to `longest` that fit into the memory, to a frame; `LEAST_SECONDS` if not even they do."""
    if _fits(memory, longest):
        return longest
    fitting, too_long = LEAST_SECONDS, longest
    while too_long - fitting > FRAME_SECONDS:
        middle = (fitting + too_long) / 2
        if _fits(memory, middle):
            fitting = middle
        else:
            too_long = middle
    return fitting


def _fits(memory: CheckLength, seconds: float) -> bool:
    try:
        memory("", seconds)
    except RequestMemoryError:
        return False
    return True
