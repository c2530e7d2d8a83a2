"""Every error that a user can cause, as one small family."""


class FastAdaSPError(Exception):
    """Base of all errors of this project: one line that names the value, the place and the remedy."""


class ProfileError(FastAdaSPError, ValueError):
    """A reduction profile that is malformed, unknown, or cannot be met by this model."""


class CheckpointError(FastAdaSPError, ValueError):
    """A checkpoint that is missing, truncated or of an unsupported kind."""


class ArtifactError(FastAdaSPError, ValueError):
    """An artifact that is damaged, incomplete or of another format version."""


class AudioError(FastAdaSPError, ValueError):
    """Audio that is missing, empty, corrupt, or too short or long for the model."""


class RequestError(FastAdaSPError, ValueError):
    """A request that the runtime cannot meet: options out of range, no tokenizer, and the like."""


class OutputError(FastAdaSPError, OSError):
    """A place that cannot be written: it exists, or the disk is full."""


class DependencyError(FastAdaSPError, ImportError):
    """A package that a command needs is not installed."""


class EngineError(FastAdaSPError, RuntimeError):
    """An engine cannot be built, or does not fit this machine or artifact."""
