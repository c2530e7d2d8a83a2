"""What an acceptance finds, and what becomes of it: only checks on the device pass a stage.

A check carries the UUID of the GPU that the code under test ran on: told by that code (the harness, torch,
ONNX Runtime) or shown by the device's memory. A stage is judged from its checks; no stage says of itself
that it passed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

PASSED, FAILED, NOT_HERE, NO_TIME = "passed", "failed", "not here", "no time left"
HOST = "host"
"""In `Check.ran_on`, of a check that needs no device: it proves nothing of a GPU."""


class NotHereError(RuntimeError):
    """A stage cannot run on this machine, and why."""


@dataclass(frozen=True)
class Check:
    """One comparison or measurement."""

    name: str
    passed: bool
    ran_on: str | None  # the UUID of a GPU, HOST, or None where the code that ran cannot show it
    figures: Mapping[str, Any] = field(default_factory=dict)
    fault: str | None = None  # what is wrong; None of one that passed


@dataclass(frozen=True)
class Skipped:
    """A part of a stage for which no time is left."""

    name: str
    seconds: float  # that it was expected to take


@dataclass(frozen=True)
class StageResult:
    """How a stage ended."""

    stage: str
    status: str  # PASSED, FAILED, NOT_HERE or NO_TIME
    why: str | None  # None of one that passed
    seconds: float
    checks: tuple[Check, ...] = ()
    skipped: tuple[Skipped, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As the result file has it."""
        return asdict(self)


def judged(
    stage: str,
    seconds: float,
    checks: Sequence[Check],
    skipped: Sequence[Skipped],
    device: str | None,
    stopped: tuple[str, str] | None = None,
) -> StageResult:
    """The verdict on a stage.

    Args:
        stage: its name.
        seconds: that it took.
        checks: what it found.
        skipped: what it had no time for.
        device: the UUID of the GPU that the driver names; None where there is none.
        stopped: how it ended before its time, as status and reason.
    """
    status, why = _verdict(checks, skipped, device, stopped)
    return StageResult(stage, status, why, round(seconds, 1), tuple(checks), tuple(skipped))


def _verdict(
    checks: Sequence[Check],
    skipped: Sequence[Skipped],
    device: str | None,
    stopped: tuple[str, str] | None,
) -> tuple[str, str | None]:
    if stopped and stopped[0] == FAILED:
        return stopped
    if faults := [
        f"{check.name}: {check.fault or 'it says no more'}" for check in checks if not check.passed
    ]:
        return FAILED, f"{len(faults)} of {len(checks)} checks; the first is {faults[0]}"
    of_device = [check for check in checks if check.ran_on != HOST]
    if elsewhere := [check for check in of_device if device is None or check.ran_on != device]:
        ran_on = elsewhere[0].ran_on or "nothing that can be shown"
        return FAILED, f"{elsewhere[0].name} ran on {ran_on}, not on the device {device or '(there is none)'}"
    if stopped:
        return stopped
    if of_device:
        return PASSED, None
    if skipped:
        return NO_TIME, f"{skipped[0].name} takes about {skipped[0].seconds:.0f} s"
    return FAILED, "nothing ran on the device"
