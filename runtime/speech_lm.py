"""A speech language model, loaded from an artifact: audio and a prompt in, text and latency out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Self, Unpack

import numpy as np
import numpy.typing as npt

from ..profiles.errors import ArtifactError, RequestError
from ..profiles.faults import count_fault, path_of, seconds_fault
from .artifact.artifact import Artifact, open_artifact
from .artifact.manifest import Manifest
from .artifact.verification import Verify, verify_of
from .audio.encoder import AudioEncoder, EncodedAudio
from .audio.read import Source
from .batching.decoder import BatchedDecoder
from .batching.submitted import Submitted
from .cancellation.cancellation import Cancellation
from .cancellation.guard import guard_of, new_guard
from .cancellation.in_thread import in_thread
from .choice.choose import Choice
from .choice.figures import Figures
from .choice.target import Auto
from .decoding.answer_sizes import AnswerSizes
from .decoding.options import ResolvedSearch, SearchOptions
from .decoding.session_decoder import SessionDecoder
from .latency import Stopwatch
from .memory.bound import RequestMemory
from .prompt import PromptIds, RawPrompt
from .requests.answer import answer, streamed, submitted
from .requests.asked import Asked
from .requests.audio import encode_audio
from .requests.choice import chosen_for
from .requests.decoder import DecoderPrompt, new_decoder, request_inputs
from .requests.loaded import LoadedModel
from .requests.search import resolved_search
from .requests.segments import answered_segments, check_segmenting
from .results import GenerationResult
from .runtime_options import DEFAULT_BACKEND, RuntimeKeywords, RuntimeOptions, runtime_options
from .segments.options import SegmentOptions
from .segments.segments import Segments
from .stream import Stream
from .uncopied import Uncopied

DEFAULTS = RuntimeOptions()
DEFAULT_SEGMENTS = SegmentOptions()


class SpeechLM(Uncopied):
    """A loaded model. Its methods may be called from many threads at once.

    Profiles share one decode session and one copy of the weights; a profile's prefill graph is loaded when
    it is first used. `close`, or the end of a `with` block, lets go of the sessions and the mapped weights.
    """

    def __init__(
        self, artifact: Artifact, profile: str | None = None, options: RuntimeOptions = DEFAULTS
    ) -> None:
        """Load the sessions of a verified artifact; `load` opens one and says what the options mean."""
        self._loaded = LoadedModel(artifact, profile, options)

    @classmethod
    def load(
        cls,
        artifact: str | os.PathLike[str],
        profile: str | None = None,
        *,
        backend: str = DEFAULT_BACKEND,
        verify: Verify | bool = "cached",
        **options: Unpack[RuntimeKeywords],
    ) -> SpeechLM:
        """Load an artifact.

        Args:
            artifact: the folder that `build` wrote.
            profile: default profile of the calls; the first of the artifact if None.
            backend: "onnxruntime"; "openvino" for an artifact with graphs for that target;
                "onnxruntime-cuda" for one with graphs for that target and a GPU;
                "tensorrt" for one with engines, on the GPU they were built for.
            verify: when files larger than 64 MiB are hashed. "cached" (or False): unless this machine has
                done so since they were last written; "always" (or True); "never".
            options: `max_request_bytes`, which refuses a request before any work if it might add more than
                that to the loaded model; `max_batch`, how many submitted requests run at once, and
                `max_queue`, how many may wait beside them; and those of the backend. Of onnxruntime, those of
                `OnnxRuntimeOptions`: `threads` of one run, 0 takes one per core; `providers`, execution
                providers, the preferred one first; `prepack`, keep a second copy of the decoder weights that
                makes beam steps faster. Without it the memory-mapped weights, which all sessions share, are
                all there is, and working memory is given back after each prefill. Of onnxruntime-cuda, those
                of `OnnxRuntimeCudaOptions`: `device`, "cuda", "cuda:1", or "cpu" for the same graphs there;
                `strict`, refuse graphs of which a node falls back to the CPU; `cuda_graph`, capture steps,
                which was never tried on a device. Of openvino, those of `OpenVinoOptions`: `threads`,
                `prepack`, and `precision`, "bf16" or "fp32". The backend tensorrt has none of its own.

        Raises:
            ArtifactError: missing, changed or of another version.
            RequestError: unknown profile, backend or provider; options that the backend does not have.
            EngineError: engines that do not fit this machine, with every field that differs.
            DependencyError: a package that the backend needs is missing.
        """
        runtime = runtime_options(backend, **options)
        how = verify_of(verify)
        folder = path_of("artifact", artifact, "the folder that build wrote", ArtifactError)
        return cls(open_artifact(folder, verify=how), profile, runtime)

    def prepare(self, *profiles: str) -> None:
        """Load the prefill graphs of profiles now, which is done when they are first used otherwise.

        Raises:
            RequestError: an unknown profile, or the model is closed.
            ArtifactError: a graph that does not load.
        """
        for name in profiles:
            self._loaded.sessions.prefill(self._loaded.profile_named(name))

    def close(self) -> None:
        """Let go of sessions and weights; requests under way in other threads may end or be refused.

        Submitted ones are cancelled, and their threads have ended when this returns. A closed model still
        tells what it was loaded from. Closing it again does nothing.
        """
        self._loaded.close()

    def __enter__(self) -> Self:
        """The model, which is closed at the end of the block; RequestError if it is already."""
        self._loaded.check_open()
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    @property
    def artifact(self) -> Artifact:
        """The folder that it was loaded from."""
        return self._loaded.artifact

    @property
    def manifest(self) -> Manifest:
        """What the artifact says of itself."""
        return self._loaded.manifest

    @property
    def profiles(self) -> tuple[str, ...]:
        """The profiles of the artifact."""
        return tuple(self.manifest.profiles)

    @property
    def profile(self) -> str:
        """The default profile of the calls."""
        return self._loaded.profile

    @property
    def figures(self) -> Figures | None:
        """What the artifact holds of the accuracy and the latency of its profiles, if anything."""
        return self.manifest.figures

    @property
    def audio_encoder(self) -> AudioEncoder:
        """From samples to audio rows, for callers with a decoder of their own."""
        return self._loaded.audio_encoder

    @property
    def device(self) -> str:
        """What the model runs on: execution providers, or the name of a GPU."""
        return self._loaded.sessions.device

    @property
    def max_audio_seconds(self) -> float:
        """The longest audio that the positions allow, with a prompt of no text."""
        return self.manifest.front_end.seconds_of(self.manifest.decoder.max_positions)

    def request_memory(
        self,
        seconds: float,
        profile: str | None = None,
        *,
        text_rows: int = 0,
        search: SearchOptions | None = None,
        **options: Any,
    ) -> RequestMemory:
        """Bytes that a request may add to the loaded model at most, stage by stage; nothing is run.

        Args:
            seconds: length of the audio.
            profile: a profile of the artifact, if not the default.
            text_rows: tokens of the prompt.
            search: how to search, or its fields by name, as in `generate`.

        Raises:
            RequestError: unknown profile, or a length, a number of tokens or options out of range.
        """
        if faults := [*seconds_fault("seconds", seconds), *count_fault("text_rows", text_rows, 0)]:
            raise RequestError("; ".join(faults))
        found = self._search(self.request_memory, search, options)
        sizes = AnswerSizes(text_rows, found.num_beams, found.max_new_tokens)
        resolved = self.manifest.profiles[self._loaded.profile_named(profile)]
        return self._loaded.memory.taken(resolved, seconds, sizes)

    def choose_profile(self, auto: Auto, audio_seconds: float, num_beams: int = 1) -> Choice:
        """The profile that a budget chooses for a length of audio, and why; nothing is run.

        Raises:
            RequestError: the artifact lacks figures, or no profile is within the budget; or the model is
                closed.
        """
        return chosen_for(self._loaded, auto, audio_seconds, num_beams)

    def encode(
        self,
        audio: Source,
        *,
        source_rate: int | None = None,
        cancellation: Cancellation | None = None,
        deadline: float | None = None,
    ) -> EncodedAudio:
        """Read and encode audio once, for any number of requests about it, under any profile.

        Args:
            audio: a path, bytes, a binary stream, or samples: an array, list or tensor, or (samples, rate).
            source_rate: Hz of samples that come without a rate, if not the model's.
            cancellation: what the request is cancelled with from another thread.
            deadline: seconds from the start, after which the request is cancelled.

        Raises:
            AudioError: audio that is missing, corrupt, too short, or too long for the positions of the model.
            RequestMemoryError: more memory than `max_request_bytes` would be needed.
            RequestError: the model is closed, or a deadline that is no number of seconds.
            EngineError: the encoder fails, mostly for want of memory.
            RequestCancelled: `cancellation` was cancelled.
            DeadlineExceeded: the deadline passed.
        """
        self._loaded.check_open()
        watch = Stopwatch(guard_of(cancellation, deadline))
        return encode_audio(self._loaded, audio, source_rate, watch)

    def generate(
        self,
        audio: Source | EncodedAudio,
        prompt: str | RawPrompt | PromptIds | None = None,
        *,
        system: str | None = None,
        profile: str | Auto | None = None,
        source_rate: int | None = None,
        scored_text: str | None = None,
        search: SearchOptions | None = None,
        cancellation: Cancellation | None = None,
        deadline: float | None = None,
        **options: Any,
    ) -> GenerationResult:
        """Answer a request.

        Args:
            audio: a path, bytes, a binary stream, samples (an array, list or tensor, or (samples, rate)), or
                what `encode` made of one. Then the latency begins after the encoder: its stages up to there
                are 0.
            prompt: text for the model's template, text that names the place of the audio itself, or ids. None
                takes the artifact's default, or else no text.
            system: text for the place of that name in the model's template, instead of its own.
            profile: a profile of the artifact, if not the default; or `Auto` with a budget, by which one is
                chosen for the length of the audio: the result says which one and why.
            source_rate: Hz of samples that come without a rate, if not the model's.
            scored_text: a text, such as the right answer, whose probability as the answer is wanted as well:
                the result has it as `scored_text`. It is one more row in every step, so answers may then
                differ by rounding.
            search: how to search; what it leaves out is as the artifact has it.
            cancellation: what the request is cancelled with from another thread.
            deadline: seconds from the start, after which the request is cancelled.
            options: fields of `search` instead, by name: num_beams, max_new_tokens, length_penalty, …

        Raises:
            AudioError: audio that is missing, corrupt, too short or too long.
            RequestMemoryError: more memory than `max_request_bytes` would be needed.
            RequestError: options out of range, unknown profile, audio that another model has encoded, or a
                prompt that the model cannot take; or no profile can be chosen by a budget.
            EngineError: a graph or an engine fails, mostly for want of memory.
            RequestCancelled: `cancellation` was cancelled.
            DeadlineExceeded: the deadline passed.
        """
        watch = Stopwatch(guard_of(cancellation, deadline))
        found = self._search(self.generate, search, options)
        asked = Asked(audio, prompt, system, profile, source_rate, found, watch, scored_text)
        return answer(self._loaded, asked)

    async def agenerate(
        self,
        audio: Source | EncodedAudio,
        prompt: str | RawPrompt | PromptIds | None = None,
        *,
        system: str | None = None,
        profile: str | Auto | None = None,
        source_rate: int | None = None,
        scored_text: str | None = None,
        search: SearchOptions | None = None,
        cancellation: Cancellation | None = None,
        deadline: float | None = None,
        **options: Any,
    ) -> GenerationResult:
        """As `generate`, in a thread of the event loop's default executor, whose size limits how many run.

        If the task is cancelled, the request ends first, and then the task. Time spent waiting for a thread
        counts for the deadline and for the latency.
        """
        watch = Stopwatch(new_guard(cancellation, deadline))
        found = self._search(self.agenerate, search, options)
        asked = Asked(audio, prompt, system, profile, source_rate, found, watch, scored_text)
        return await in_thread(lambda: answer(self._loaded, asked), asked.guard.own)

    def submit(
        self,
        audio: Source | EncodedAudio,
        prompt: str | RawPrompt | PromptIds | None = None,
        *,
        system: str | None = None,
        profile: str | Auto | None = None,
        source_rate: int | None = None,
        scored_text: str | None = None,
        search: SearchOptions | None = None,
        cancellation: Cancellation | None = None,
        deadline: float | None = None,
        **options: Any,
    ) -> Submitted:
        """Hand a request over, to be answered together with others; arguments are those of `generate`.

        At most `max_batch` run at once; the others wait, first come, first served. Time spent waiting counts
        for the deadline and for the latency. Faults of the audio and the prompt are raised by the `result`.

        Raises:
            QueueFullError: `max_queue` requests are waiting.
            RequestError: options out of range, or the model is closed.
        """
        self._loaded.check_open()
        watch = Stopwatch(new_guard(cancellation, deadline))
        found = self._search(self.submit, search, options)
        asked = Asked(audio, prompt, system, profile, source_rate, found, watch, scored_text, shares=True)
        return submitted(self._loaded, asked)

    def stream(
        self,
        audio: Source | EncodedAudio,
        prompt: str | RawPrompt | PromptIds | None = None,
        *,
        system: str | None = None,
        profile: str | Auto | None = None,
        source_rate: int | None = None,
        search: SearchOptions | None = None,
        cancellation: Cancellation | None = None,
        deadline: float | None = None,
        share_steps: bool = False,
        **options: Any,
    ) -> Stream:
        """Greedy search, token by token: each piece is the text that a token adds.

        Arguments and errors are those of `generate`, and the stream's `result` is what it returns. Faults of
        the request are raised by this call, before the first piece is asked for. The deadline is that of the
        last piece, so it counts what the reader takes in between. With `share_steps` it is decoded together
        with submitted requests and others of its kind, which wait a moment for a reader that is slow.
        """
        watch = Stopwatch(new_guard(cancellation, deadline))
        found = self._search(self.stream, search, options)
        asked = Asked(audio, prompt, system, profile, source_rate, found, watch, shares=share_steps)
        return streamed(self._loaded, asked)

    def segments(
        self,
        audio: Source,
        prompt: str | RawPrompt | PromptIds | None = None,
        *,
        system: str | None = None,
        profile: str | Auto | None = None,
        source_rate: int | None = None,
        search: SearchOptions | None = None,
        segmenting: SegmentOptions = DEFAULT_SEGMENTS,
        at_once: int = 1,
        max_audio_seconds: float | None = None,
        tell: Callable[[str], None] | None = None,
        cancellation: Cancellation | None = None,
        deadline: float | None = None,
        **options: Any,
    ) -> Segments:
        """Find the speech in audio of any length, and answer the same request about each segment of it.

        Audio is read as far as the next segment needs, so memory does not grow with its length. Where a
        segment begins and ends in it is exact to a frame of 32 ms, however long it is. Without speech there
        is no segment.

        Arguments are those of `generate`. Faults of the request are raised by this call, those of the audio
        when a segment is asked for. The deadline is that of the last segment, so it counts what the reader
        takes in between.

        Args:
            audio: as in `generate`, but nothing that is encoded.
            segmenting: where segments begin and end.
            at_once: how many segments are answered at the same time; more than one are submitted, and the
                first one is waited for. They come in order all the same.
            max_audio_seconds: longer audio is refused, as soon as its length is known; None: any is read.
            tell: called with each piece of a segment's text as it is found, by greedy search, before the
                segment is given; joined, they are its text. The pieces of segments come in their order.
            cancellation: ends reading and answers.
            deadline: seconds from the start, after which they end.

        Raises:
            QueueFullError: when a segment is asked for: other submitted requests fill the queue.
            RequestError: as `generate`; or segments that are longer than the model can hear at once.
            AudioError: segments that are longer than the engines can hear at once. When a segment is asked
                for: a `LongAudioError` for more than `max_audio_seconds`.
            RequestMemoryError: the longest segment that is asked for, or one of a second where none is, might
                take more memory than `max_request_bytes`.
            ArtifactError: the model that hears speech is damaged.
        """
        check_segmenting(segmenting, at_once, max_audio_seconds, tell)
        watch = Stopwatch(new_guard(cancellation, deadline))
        found = self._search(self.segments, search, options)
        asked = Asked(audio, prompt, system, profile, source_rate, found, watch)
        return answered_segments(self._loaded, asked, segmenting, at_once, max_audio_seconds, tell)

    def search_options(self, search: SearchOptions | None = None, **options: Any) -> ResolvedSearch:
        """The search that a record asks for, or its fields by name; what is left out is the artifact's.

        Raises:
            RequestError: a record beside fields, unknown fields, values or tokens out of range.
        """
        return resolved_search(self.manifest, search, options)

    def _search(
        self, method: Callable[..., object], search: SearchOptions | None, options: Mapping[str, Any]
    ) -> ResolvedSearch:
        """As `search_options`, for one of these methods."""
        return resolved_search(self.manifest, search, options, method)

    def decoder(
        self,
        profile: str | None,
        before: npt.NDArray[np.int64],
        rows: npt.NDArray[np.float32],
        after: npt.NDArray[np.int64],
        watch: Stopwatch | None = None,
        adapter: npt.NDArray[np.int64] | None = None,
        search: ResolvedSearch | None = None,
    ) -> BatchedDecoder | SessionDecoder:
        """A decoder over a prompt of ids and audio rows, for callers with a search of their own.

        `rows` are (audio rows, hidden_size), or as `encode` gives them, with what the encoder says of each
        behind it, which some profiles need. `adapter` are the ids that a prompt adapter reads, for a model
        that has one. Given the options of a `search`, the decoder shares steps with others where the backend
        can; it is then to be closed.

        Raises:
            RequestError: the model is closed, an unknown profile, no ids for the prompt adapter, or rows that
                the profile does not take.
        """
        prompt = DecoderPrompt(before, rows, after, adapter)
        text_rows = len(before) + len(after)
        sizes = AnswerSizes(text_rows, search.num_beams, search.max_new_tokens) if search else None
        return new_decoder(self._loaded, profile, prompt, watch or Stopwatch(), sizes)

    def request_inputs(
        self, adapter: npt.NDArray[np.int64] | None, watch: Stopwatch | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """What prefill and steps of a request take alike, from the ids of its prompt adapter.

        Raises:
            RequestError: no such ids, and the model has a prompt adapter.
        """
        return request_inputs(self._loaded, adapter, watch or Stopwatch())
