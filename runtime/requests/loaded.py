"""A loaded artifact: what its requests share, until it is closed."""

from __future__ import annotations

from functools import cached_property

from ...profiles.errors import RequestError
from ...profiles.faults import shown
from ...profiles.flops import DecoderDims
from ..artifact.artifact import TOKENIZER, Artifact
from ..audio.encoder import AudioEncoder
from ..backends import open_sessions
from ..batching.decoder import Batcher
from ..batching.queue import RequestQueue
from ..choice.figures import Machine
from ..choice.target import AUTO
from ..decoding.prompt_adapter import PromptAdapter
from ..environment import machine
from ..memory.limit import MemoryLimit, sizes_of
from ..prompt import PromptCodec, tokenizer_of
from ..runtime_options import RuntimeOptions
from ..sessions import Sessions
from ..uncopied import Uncopied


class LoadedModel(Uncopied):
    """The parts that requests of many threads use at once."""

    def __init__(self, artifact: Artifact, profile: str | None, options: RuntimeOptions) -> None:
        """Load the sessions of a verified artifact, and the prefill graph of its default profile.

        Raises:
            RequestError: unknown profile or backend.
            ArtifactError: a file that does not load.
        """
        self.artifact, self.manifest = artifact, artifact.manifest
        self.place = f"artifact {artifact.folder}"  # as messages call it
        self._threads = options.threads
        self.profile = next(iter(self.manifest.profiles))
        self.profile = self.profile_named(profile)
        self._opened: Sessions | None = open_sessions(artifact, options.backend, options.options)
        sessions, dims = self.sessions, self.dims
        self.audio_encoder = AudioEncoder(sessions.encoder, self.manifest.front_end, sessions.wave_encoder)
        steps, limits = sessions.steps, sessions.limits
        most = min(options.max_batch, limits.max_batch) if limits else options.max_batch
        self.memory = MemoryLimit(options.max_request_bytes, sizes_of(self.manifest, sessions, most))
        self.codec, self.prompt_adapter = _codec_of(artifact, self.place), PromptAdapter()
        self.batcher = None if steps is None else Batcher(steps, dims, most)
        self.queue = RequestQueue(options.max_batch, options.max_queue, self.check_open)
        sessions.prefill(self.profile)
        if self.manifest.decoder.has_prompt_adapter:
            sessions.prompt_adapter()

    def close(self) -> None:
        """Let go of sessions and weights, once the threads of submitted requests have ended."""
        self._opened = None  # first, so that requests under way are refused and begin no more work
        self.queue.close()
        self.batcher = None
        self.audio_encoder.close()

    @property
    def sessions(self) -> Sessions:
        """Those of the backend; RequestError if the model is closed."""
        if self._opened is None:
            raise RequestError(f"{self.place}: the model is closed; load the artifact again")
        return self._opened

    @cached_property
    def machine(self) -> Machine:
        """What it runs on."""
        return machine(self.sessions.device, self._threads)

    def check_open(self) -> None:
        """Refuse to work on a closed model."""
        _ = self.sessions

    @property
    def dims(self) -> DecoderDims:
        """The sizes of its decoder."""
        return self.manifest.decoder.dims

    @property
    def sample_rate(self) -> int:
        """Of the audio that it hears, in Hz."""
        return self.manifest.front_end.log_mel.sample_rate

    def profile_named(self, name: str | None) -> str:
        """The default for None.

        Raises:
            RequestError: the artifact has no such profile.
        """
        if name is None:
            return self.profile
        if not isinstance(name, str) or name not in self.manifest.profiles:
            known = ", ".join(self.manifest.profiles)
            auto = f"; for {AUTO} give a budget" if name == AUTO else ""
            raise RequestError(f"profile {shown(name)} is not in this artifact; it has: {known}{auto}")
        return name


def _codec_of(artifact: Artifact, place: str) -> PromptCodec | None:
    """None where prompts are ids, and answers too."""
    if artifact.manifest.prompt is None or not artifact.has_tokenizer:
        return None
    tokenizer = tokenizer_of(artifact.read(TOKENIZER), f"{place}: {TOKENIZER}")
    return PromptCodec(tokenizer, artifact.manifest.prompt)
