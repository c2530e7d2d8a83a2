"""Every error that a user can cause, as one small family."""

from collections.abc import Sequence


class FastAdaSPError(Exception):
    """Base of all errors of this project: one line that names the value, the place and the remedy."""


class ProfileError(FastAdaSPError, ValueError):
    """A reduction profile that is malformed, unknown, or cannot be met by this model."""


class InfeasibleError(ProfileError):
    """A sound profile that this model has no room for, as a FLOPs target beyond what its schedule removes."""


class CheckpointError(FastAdaSPError, ValueError):
    """A checkpoint that is missing, truncated or of an unsupported kind."""


class ArtifactError(FastAdaSPError, ValueError):
    """An artifact that is damaged, incomplete or of another format version."""


class AudioError(FastAdaSPError, ValueError):
    """Audio that is missing, empty, corrupt, or too short or long for the model."""


class LongAudioError(AudioError):
    """Audio that is longer than the model takes in one request; cut into segments it may be answered."""


class RequestError(FastAdaSPError, ValueError):
    """A request that the runtime cannot meet: options out of range, no tokenizer, and the like."""


class ChoiceError(RequestError):
    """A request for which no profile can be chosen; for shorter audio there may be one."""


class RequestMemoryError(AudioError, RequestError, MemoryError):
    """A request that would take more memory than it may; shorter audio, among others, would take less."""


class RequestCancelled(FastAdaSPError, RuntimeError):  # noqa: N818 - no fault, as in asyncio
    """A request that ended before its answer because it was cancelled."""


class DeadlineExceeded(RequestCancelled, TimeoutError):  # noqa: N818
    """A request whose deadline passed before its answer."""


class QueueFullError(FastAdaSPError, RuntimeError):
    """As many requests wait as may; the same request may be met later."""


class OutputError(FastAdaSPError, OSError):
    """A place that cannot be written: it exists, or the disk is full."""


class DependencyError(FastAdaSPError, ImportError):
    """A package that a command needs is not installed."""


class EngineError(FastAdaSPError, RuntimeError):
    """An engine cannot be built, does not fit this machine or artifact, or fails in a run."""


MOST_FAULTS = 20  # that a message shows
LONGEST_FAULT = 500  # characters


class FaultsError(FastAdaSPError, ValueError):
    """Faults of one input, of which there may be many: a line that sums them up, and a line for each.

    `faults` has them all; the message shows the first `MOST_FAULTS` and says how many more there are.
    """

    def __init__(self, summary: str, faults: Sequence[str] = ()) -> None:
        super().__init__(summary, tuple(faults))
        self.summary, self.faults = summary, tuple(faults)

    def __str__(self) -> str:
        left = len(self.faults) - MOST_FAULTS
        more = [f"… and {left} more fault{'s' * (left > 1)}: mend these first"] if left > 0 else []
        return "\n  ".join(_line(text) for text in (self.summary, *self.faults[:MOST_FAULTS], *more))


def _line(text: str) -> str:
    line = " ".join(text.splitlines())
    return line if len(line) <= LONGEST_FAULT else f"{line[: LONGEST_FAULT - 2]} …"


class ClipsError(FaultsError):
    """Faults of a list of clips."""


class ResultsError(FaultsError):
    """Faults of result files."""


class WorkerError(FastAdaSPError, RuntimeError):
    """A process that works for a command has died."""


class WorkerHungError(WorkerError):
    """It was ended, because it lived and did not go on."""


class JournalError(FastAdaSPError, ValueError):
    """A journal of other settings, or one that is damaged or in use."""
