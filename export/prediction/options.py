"""What a plan is asked for, checked once; quick to import, so that a command line shows its defaults."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...profiles.errors import ProfileError, RequestError
from ...profiles.faults import count_fault, count_faults, shown
from ...profiles.methods import FULL
from ...profiles.profile import Profile
from ...runtime.backend_options import threads_fault
from ...runtime.decoding.options import MOST_BEAMS, MOST_NEW_TOKENS
from ..model.formats import INT4_BLOCKS, QUANTIZED, int4_block_faults
from .devices import check_devices, precision_of

PROFILES = (FULL, "dense-constant-50")
LONGEST_SECONDS = 1e6
MOST_POSITIONS = 2**24
MOST = {"new_tokens": MOST_NEW_TOKENS, "text_rows": MOST_POSITIONS}
LEAST = {"new_tokens": 2, "text_rows": 1}


@dataclass(frozen=True)
class PlanOptions:
    """Every device x every profile x every number of beams x every length of audio.

    Raises:
        RequestError: with every fault.
        ProfileError: two profiles of one name.
    """

    profiles: tuple[Profile, ...]
    devices: tuple[str, ...] = ("a100",)
    beams: tuple[int, ...] = (1, 5)
    audio_seconds: tuple[float, ...] = (30.0, 120.0, 240.0)
    precision: str | None = None  # of the GPUs; bf16 if None, or fp16 where there is none
    quantize: str | None = None  # what the large matrices are stored in
    int4_block: int = INT4_BLOCKS[0]  # inputs that share a scale in int4, of INT4_BLOCKS
    new_tokens: int = 64  # of each beam
    text_rows: int = 20  # of the prompt
    max_positions: int | None = None  # more than the checkpoint has
    threads: int = 0  # of the CPU; 0 for one per core

    def __post_init__(self) -> None:
        check_devices(self.devices)
        if faults := list(_faults(self)):
            raise RequestError("; ".join(faults))
        for device in self.devices:
            precision_of(device, self.precision)
        names = [profile.name for profile in self.profiles]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ProfileError(f"profile {', '.join(twice)} is given twice; names must differ within a plan")


def _faults(options: PlanOptions) -> Iterator[str]:
    yield from count_faults(options, LEAST, MOST)
    yield from threads_fault(options.threads)
    if options.quantize is not None and options.quantize not in QUANTIZED:
        yield f"quantize {shown(options.quantize)} is unknown; choose {', '.join(QUANTIZED)}"
    yield from int4_block_faults(options.quantize, options.int4_block)
    for beams in options.beams:
        yield from count_fault("beams", beams, 1, MOST_BEAMS)
    for seconds in options.audio_seconds:
        if not 0 < seconds <= LONGEST_SECONDS:
            yield f"audio_seconds is {seconds:g}: give a number above 0, at most {LONGEST_SECONDS:.0f}"
