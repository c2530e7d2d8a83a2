"""A speech language model, loaded from an artifact: audio and a prompt in, text and latency out."""

from __future__ import annotations

import os
from collections.abc import Generator
from dataclasses import replace
from typing import Any, Self, Unpack

import numpy as np
import numpy.typing as npt

from ..profiles import signature as sig
from ..profiles.errors import ArtifactError, RequestError
from ..profiles.faults import count_fault, path_of, shown, text_fault
from ..profiles.flops import DecoderDims
from .artifact.artifact import TOKENIZER, Artifact, open_artifact
from .artifact.verification import Verify, verify_of
from .audio.encoder import AudioEncoder, EncodedAudio
from .audio.read import Audio, Source, load_audio, place_of, read_blocks
from .audio.recording import CheckLength
from .backends import open_sessions
from .batching.decoder import BatchedDecoder, Batcher
from .batching.queue import RequestQueue
from .batching.submitted import Submitted
from .cancellation.cancellation import Cancellation
from .cancellation.guard import guard_of
from .cancellation.in_thread import in_thread
from .decoding.drive import new_search
from .decoding.options import ResolvedSearch, SearchOptions
from .decoding.prompt_adapter import PromptAdapter
from .decoding.search import Hypothesis
from .decoding.session_decoder import SessionDecoder
from .latency import Stopwatch
from .limits import (
    check_audio,
    check_characters,
    check_engines,
    check_ids,
    check_length,
    check_room,
    ended_by,
    length_limit,
    limit_of,
)
from .memory.bound import AnswerSizes, RequestMemory
from .memory.limit import MemoryLimit, sizes_of
from .prompt import PromptCodec, PromptIds, RawPrompt, tokenizer_of
from .request import Request
from .results import GenerationResult, TextHypothesis
from .runtime_options import DEFAULT_BACKEND, RuntimeKeywords, RuntimeOptions, runtime_options
from .segments.longest import longest_segment
from .segments.options import SegmentOptions
from .segments.segments import Answer, Segments, answered
from .segments.speech import Listener, Speech
from .sessions import Sessions
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
        self,
        artifact: Artifact,
        profile: str | None = None,
        options: RuntimeOptions = DEFAULTS,
    ) -> None:
        """Load the sessions of a verified artifact; `load` opens one and says what the options mean."""
        self.artifact, self.manifest = artifact, artifact.manifest
        self.profile = next(iter(self.manifest.profiles))
        self.profile = self._chosen_profile(profile)
        self._opened: Sessions | None = open_sessions(artifact, options.backend, options.options)
        encoders = self._sessions.encoder, self._sessions.wave_encoder
        self.audio_encoder = AudioEncoder(encoders[0], self.manifest.front_end, encoders[1])
        self._memory = MemoryLimit(
            options.max_request_bytes, sizes_of(self.manifest, self._sessions, options.max_batch)
        )
        self._codec, self._prompt_adapter = self._load_codec(), PromptAdapter()
        steps = self._sessions.steps
        self._batcher = None if steps is None else Batcher(steps, self._dims, options.max_batch)
        self._queue = RequestQueue(options.max_batch, options.max_queue)
        self._sessions.prefill(self.profile)
        if self.manifest.decoder.has_prompt_adapter:
            self._sessions.prompt_adapter()

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
            backend: "onnxruntime"; "onnxruntime-cuda" for an artifact with graphs for that target and a GPU;
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
                which was never tried on a device. The backend tensorrt has none of its own.

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

    def close(self) -> None:
        """Let go of sessions and weights; requests under way in other threads may end or be refused.

        Submitted ones are cancelled, and their threads have ended when this returns. A closed model still
        tells what it was loaded from. Closing it again does nothing.
        """
        self._opened = None
        self._queue.close()
        self._batcher = None
        self.audio_encoder.close()

    def __enter__(self) -> Self:
        """The model, which is closed at the end of the block; RequestError if it is already."""
        self._check_open()
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    @property
    def profiles(self) -> tuple[str, ...]:
        """The profiles of the artifact."""
        return tuple(self.manifest.profiles)

    @property
    def device(self) -> str:
        """What the model runs on: execution providers, or the name of a GPU."""
        return self._sessions.device

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
            RequestError: unknown profile, or options out of range.
        """
        found = self.search_options(search, **options)
        asked = AnswerSizes(text_rows, found.num_beams, found.max_new_tokens)
        resolved = self.manifest.profiles[self._chosen_profile(profile)]
        return self._memory.taken(resolved, seconds, asked)

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
        self._check_open()
        watch, place = Stopwatch(guard_of(cancellation, deadline)), place_of(audio)
        limit = limit_of(length_limit(self.manifest), self._memory.of_encoding)
        heard = self._read(audio, source_rate, watch, limit)
        check_audio(self.manifest, place, heard)
        self._memory.of_encoding(place, heard.seconds)
        rows = self.audio_encoder.encode(heard.samples, watch)
        stages = {name: watch.stages[name] for name in ("audio", "mel", "encoder")}
        return EncodedAudio(place, heard, rows, stages, self.audio_encoder)

    def generate(
        self,
        audio: Source | EncodedAudio,
        prompt: str | RawPrompt | PromptIds | None = None,
        *,
        system: str | None = None,
        profile: str | None = None,
        source_rate: int | None = None,
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
            profile: a profile of the artifact, if not the default.
            source_rate: Hz of samples that come without a rate, if not the model's.
            search: how to search; what it leaves out is as the artifact has it.
            cancellation: what the request is cancelled with from another thread.
            deadline: seconds from the start, after which the request is cancelled.
            options: fields of `search` instead, by name: num_beams, max_new_tokens, length_penalty, …

        Raises:
            AudioError: audio that is missing, corrupt, too short or too long.
            RequestMemoryError: more memory than `max_request_bytes` would be needed.
            RequestError: options out of range, unknown profile, audio that another model has encoded, or a
                prompt that the model cannot take.
            EngineError: a graph or an engine fails, mostly for want of memory.
            RequestCancelled: `cancellation` was cancelled.
            DeadlineExceeded: the deadline passed.
        """
        watch, search = Stopwatch(guard_of(cancellation, deadline)), self.search_options(search, **options)
        return self._answer(audio, prompt, system, profile, source_rate, search, watch)

    async def agenerate(
        self,
        audio: Source | EncodedAudio,
        prompt: str | RawPrompt | PromptIds | None = None,
        *,
        system: str | None = None,
        profile: str | None = None,
        source_rate: int | None = None,
        search: SearchOptions | None = None,
        cancellation: Cancellation | None = None,
        deadline: float | None = None,
        **options: Any,
    ) -> GenerationResult:
        """As `generate`, in a thread of the event loop's default executor, whose size limits how many run.

        If the task is cancelled, the request ends first, and then the task. Time spent waiting for a thread
        counts for the deadline and for the latency.
        """
        own = Cancellation()
        watch = Stopwatch(guard_of(cancellation, deadline, own))
        resolved = self.search_options(search, **options)
        asked = audio, prompt, system, profile, source_rate, resolved, watch
        return await in_thread(lambda: self._answer(*asked), own)

    def submit(
        self,
        audio: Source | EncodedAudio,
        prompt: str | RawPrompt | PromptIds | None = None,
        *,
        system: str | None = None,
        profile: str | None = None,
        source_rate: int | None = None,
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
        self._check_open()
        own = Cancellation()
        guard = guard_of(cancellation, deadline, own)
        assert guard is not None, "it has a cancellation of its own"
        resolved = self.search_options(search, **options)
        asked = audio, prompt, system, profile, source_rate, resolved, Stopwatch(guard)
        others = () if cancellation is None else (cancellation,)
        return self._queue.submit(lambda: self._answer(*asked, shares=True), guard, own, *others)

    def stream(
        self,
        audio: Source | EncodedAudio,
        prompt: str | RawPrompt | PromptIds | None = None,
        *,
        system: str | None = None,
        profile: str | None = None,
        source_rate: int | None = None,
        search: SearchOptions | None = None,
        cancellation: Cancellation | None = None,
        deadline: float | None = None,
        **options: Any,
    ) -> Stream:
        """Greedy search, token by token: each piece is the text that a token adds.

        Arguments and errors are those of `generate`, and the stream's `result` is what it returns. Faults of
        the request are raised by this call, before the first piece is asked for. The deadline is that of the
        last piece, so it counts what the reader takes in between.
        """
        own = Cancellation()
        watch = Stopwatch(guard_of(cancellation, deadline, own))
        search = self.search_options(search, **options)
        if search.num_beams != 1:
            raise RequestError(
                f"num_beams is {search.num_beams}: tokens are streamed by greedy search, give 1"
            )
        if self._codec is None:
            raise RequestError(f"{self._place}: it has no tokenizer, so there is no text to stream")
        request = self._begin(audio, self._encode(prompt, system), profile, source_rate, search, watch)
        return Stream(self._pieces(self._codec, request), own)

    def segments(
        self,
        audio: Source,
        prompt: str | RawPrompt | PromptIds | None = None,
        *,
        system: str | None = None,
        profile: str | None = None,
        source_rate: int | None = None,
        search: SearchOptions | None = None,
        segmenting: SegmentOptions = DEFAULT_SEGMENTS,
        at_once: int = 1,
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
            prompt: as in `generate`, and so are the others that are not named here.
            system: as in `generate`.
            profile: as in `generate`.
            source_rate: as in `generate`.
            search: as in `generate`.
            segmenting: where segments begin and end.
            at_once: how many segments are answered at the same time; more than one are submitted, and the
                first one is waited for. They come in order all the same.
            cancellation: ends reading and answers.
            deadline: seconds from the start, after which they end.
            options: as in `generate`.

        Raises:
            QueueFullError: when a segment is asked for: other submitted requests fill the queue.
            RequestError: as `generate`; or segments that are longer than the model can hear at once.
            AudioError: segments that are longer than the engines can hear at once.
            RequestMemoryError: the longest segment might take more memory than `max_request_bytes`.
            ArtifactError: the model that hears speech is damaged.
        """
        if faults := list(count_fault("at_once", at_once, 1)):
            raise RequestError("; ".join(faults))
        if not isinstance(segmenting, SegmentOptions):
            raise RequestError(f"segmenting is {shown(segmenting)}: give a record of SegmentOptions")
        own = Cancellation()
        guard, found = guard_of(cancellation, deadline, own), self.search_options(search, **options)
        assert guard is not None, "it has a cancellation of its own"
        ids, name = self._encode(prompt, system), self._chosen_profile(profile)
        rules = segmenting.rules(self._longest_segment(ids, name, found, segmenting.max_seconds))
        rate = self.manifest.front_end.log_mel.sample_rate
        listener = Listener(rate, rules)
        blocks = read_blocks(audio, rate, source_rate=source_rate, check_length=ended_by(guard))
        speech = Stopwatch(guard).each("audio", listener.listen(blocks))

        def ask(part: Speech) -> Answer:
            least = self.manifest.front_end.shortest_samples  # of which the end of speech may have fewer
            samples = np.pad(part.samples, (0, max(0, least - len(part.samples))))
            own_guard = guard.of_part()
            asked = samples, ids, None, name, rate, found, Stopwatch(own_guard)
            if at_once == 1:
                return lambda: self._answer(*asked)
            return self._queue.submit(lambda: self._answer(*asked, shares=True), own_guard, own).result

        return Segments(answered(speech, ask, own, at_once), listener, own)

    def _longest_segment(
        self, ids: PromptIds, profile: str, search: ResolvedSearch, asked: float | None
    ) -> float:
        """Seconds of a segment at most; refuses a request for which that is too long, or takes too much."""
        limits, place = self._sessions.limits, "the longest segment (max_seconds, --max-segment-seconds)"
        check_ids(self.manifest, ids, profile)
        check_room(self.manifest, ids, search.max_new_tokens)
        longest = longest_segment(self.manifest, limits, ids, search.max_new_tokens, asked)
        sizes = AnswerSizes(ids.num_text_rows, search.num_beams, search.max_new_tokens)
        self._memory.of_request(self.manifest.profiles[profile], sizes, encoded=False)(place, longest)
        if limits:
            rate = self.manifest.front_end.log_mel.sample_rate
            silence = Audio(np.zeros(int(longest * rate), np.float32), rate)
            check_engines(self.manifest, limits, place, silence, ids, search)
        return longest

    def search_options(self, search: SearchOptions | None = None, **options: Any) -> ResolvedSearch:
        """The search that a record asks for, or its fields by name; what is left out is the artifact's.

        Raises:
            RequestError: a record beside fields, unknown fields, values or tokens out of range.
        """
        if search is not None and options:
            raise RequestError(
                f"search and {', '.join(options)}: give a record of SearchOptions or its fields, not both"
            )
        known = SearchOptions.__dataclass_fields__
        if unknown := [name for name in options if name not in known]:
            others = "search", "system", "profile", "source_rate", "cancellation", "deadline"
            names = ", ".join((*known, *others))
            raise RequestError(f"option {', '.join(unknown)} is unknown; known: {names}")
        if search is not None and not isinstance(search, SearchOptions):
            raise RequestError(f"search is {shown(search)}: give a record of SearchOptions")
        own = replace(self.manifest.generation, eos_token_ids=self.manifest.decoder.eos_token_ids)
        asked = search or SearchOptions(**options)
        asked.check_vocabulary(self._dims.vocab_size)
        return asked.resolved(own)

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

        `adapter` are the ids that a prompt adapter reads, for a model that has one. Given the options of a
        `search`, the decoder shares steps with others where the backend can; it is then to be closed.
        """
        inputs: dict[str, npt.NDArray[Any]] = {
            sig.PREFIX_IDS: before,
            sig.AUDIO_EMBEDS: rows,
            sig.SUFFIX_IDS: after,
        }
        batcher = self._batcher  # before the sessions: a model that is closed meanwhile has none of them
        sessions, name, watch = self._sessions, self._chosen_profile(profile), watch or Stopwatch()
        fixed, of_steps = self._long_context_inputs(name, len(before) + len(rows) + len(after))
        fixed |= self.request_inputs(adapter, watch)
        prefill = sessions.prefill(name)
        if batcher:
            return BatchedDecoder(prefill, batcher, inputs, watch, search, fixed, of_steps)
        return SessionDecoder(prefill, sessions.decode, self._dims, inputs, watch, fixed, of_steps)

    def request_inputs(
        self, adapter: npt.NDArray[np.int64] | None, watch: Stopwatch | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """What prefill and steps of a request take alike, from the ids of its prompt adapter.

        Raises:
            RequestError: no such ids, and the model has a prompt adapter.
        """
        if not self.manifest.decoder.has_prompt_adapter:
            return {}
        if adapter is None:
            raise RequestError("prompt ids: those for the prompt adapter are missing; give them, too")
        session = self._sessions.prompt_adapter()
        strength = self._prompt_adapter.strength(session, adapter, watch or Stopwatch())
        return {sig.LORA_SCALE: strength}

    def _long_context_inputs(self, profile: str, prompt_rows: int) -> list[dict[str, npt.NDArray[Any]]]:
        """What prefill and steps take of a prompt so long, before any reduction; and what only steps take."""
        if (context := self.manifest.decoder.long_context) is None:
            return [{}, {}]
        evicts = self.manifest.profiles[profile].cache_only
        values = {
            sig.ROPE_ALPHA: np.array([context.rope_alpha(prompt_rows)], np.float32),
            sig.ROWS_BEFORE_EVICTION: np.array([prompt_rows if evicts else 0]),
        }
        taken = context.request_inputs, context.step_inputs
        return [{tensor.name: values[tensor.name] for tensor in tensors} for tensors in taken]

    @property
    def _sessions(self) -> Sessions:
        if self._opened is None:
            raise RequestError(f"{self._place}: the model is closed; load the artifact again")
        return self._opened

    def _check_open(self) -> None:
        """Refuse to work on a closed model."""
        _ = self._sessions

    @property
    def _dims(self) -> DecoderDims:
        return self.manifest.decoder.dims

    @property
    def _place(self) -> str:
        return f"artifact {self.artifact.folder}"

    def _answer(
        self,
        audio: Source | EncodedAudio,
        prompt: str | RawPrompt | PromptIds | None,
        system: str | None,
        profile: str | None,
        source_rate: int | None,
        search: ResolvedSearch,
        watch: Stopwatch,
        shares: bool = False,
    ) -> GenerationResult:
        ids = self._encode(prompt, system)
        request = self._begin(audio, ids, profile, source_rate, search, watch, shares)
        request.run()
        return self._result(request)

    def _begin(
        self,
        source: Source | EncodedAudio,
        ids: PromptIds,
        profile: str | None,
        source_rate: int | None,
        search: ResolvedSearch,
        watch: Stopwatch,
        shares: bool = False,
    ) -> Request:
        """Check a request, encode its audio, and set up the search for its answer.

        If it `shares` steps with others, its scores depend on them in their last bits.
        """
        sessions, name = self._sessions, self._chosen_profile(profile)
        check_ids(self.manifest, ids, name)
        check_room(self.manifest, ids, search.max_new_tokens)
        asked = AnswerSizes(ids.num_text_rows, search.num_beams, search.max_new_tokens)
        memory = self._memory.of_request(
            self.manifest.profiles[name], asked, encoded=isinstance(source, EncodedAudio)
        )
        limit = limit_of(length_limit(self.manifest, ids, search.max_new_tokens), memory)
        place, audio, rows = self._heard(source, source_rate, watch, limit)
        ids = ids.about(audio.seconds)
        check_length(self.manifest, place, audio, ids, search.max_new_tokens)
        memory(place, audio.seconds)
        if sessions.limits:
            check_engines(self.manifest, sessions.limits, place, audio, ids, search)
        if rows is None:
            rows = self.audio_encoder.encode(audio.samples, watch)
        of_batch = search if shares else None
        return Request(
            profile=name,
            options=search,
            audio_seconds=audio.seconds,
            audio_rows=len(rows),
            text_rows=ids.num_text_rows,
            search=new_search(search, self._dims.vocab_size, self._history(ids)),
            decoder=self.decoder(name, ids.before, rows, ids.after, watch, ids.adapter, of_batch),
            watch=watch,
        )

    def _heard(
        self, source: Source | EncodedAudio, source_rate: int | None, watch: Stopwatch, limit: CheckLength
    ) -> tuple[str, Audio, npt.NDArray[np.float32] | None]:
        """How messages call the audio, its samples, and its rows where they are known already."""
        if not isinstance(source, EncodedAudio):
            return place_of(source), self._read(source, source_rate, watch, limit), None
        if source.encoder is not self.audio_encoder:
            raise RequestError(f"{source.place} was encoded by another model; encode it with this one")
        return source.place, source.audio, source.rows

    def _read(self, source: Source, source_rate: int | None, watch: Stopwatch, limit: CheckLength) -> Audio:
        rate = self.manifest.front_end.log_mel.sample_rate
        limit = limit_of(limit, ended_by(watch.guard)) if watch.guard else limit
        with watch.stage("audio"):
            return load_audio(source, rate, source_rate=source_rate, check_length=limit)

    def _history(self, ids: PromptIds) -> tuple[int, ...]:
        """The prompt as penalties and bans see it, with the ids that stand for the audio."""
        audio_ids = self.manifest.prompt.audio_token_ids if self.manifest.prompt else ()
        return (*ids.before.tolist(), *audio_ids, *ids.after.tolist())

    def _encode(self, prompt: str | RawPrompt | PromptIds | None, system: str | None) -> PromptIds:
        given = {
            name: text
            for name, text in (("prompt", prompt), ("system", system))
            if not (text is None or isinstance(text, RawPrompt | PromptIds))
        }
        if faults := [fault for name, text in given.items() for fault in text_fault(name, text)]:
            raise RequestError("; ".join(faults))
        if isinstance(prompt, PromptIds):
            if system is not None:
                raise RequestError(f"system {shown(system)}: token ids are taken as they are; leave it out")
            return prompt
        if self._codec is None:
            raise RequestError(f"{self._place}: it has no tokenizer; give the prompt as PromptIds")
        for text in (prompt.text if isinstance(prompt, RawPrompt) else prompt, system):
            check_characters(self.manifest, text or "")
        return self._codec.encode(prompt, system)

    def _pieces(self, codec: PromptCodec, request: Request) -> Generator[str, None, GenerationResult]:
        yield from codec.stream(request.tokens())
        return self._result(request)

    def _result(self, request: Request) -> GenerationResult:
        with request.watch.stage("detokenize"):
            hypotheses = tuple(self._with_text(found) for found in request.search.hypotheses)
        return request.result(hypotheses)

    def _with_text(self, found: Hypothesis) -> TextHypothesis:
        return TextHypothesis(**vars(found), text=self._codec.decode(found.tokens) if self._codec else "")

    def _chosen_profile(self, name: str | None) -> str:
        """The default for None."""
        if name is None:
            return self.profile
        if not isinstance(name, str) or name not in self.manifest.profiles:
            known = ", ".join(self.manifest.profiles)
            raise RequestError(f"profile {shown(name)} is not in this artifact; it has: {known}")
        return name

    def _load_codec(self) -> PromptCodec | None:
        if self.manifest.prompt is None or not self.artifact.has_tokenizer:
            return None
        place = f"{self._place}: {TOKENIZER}"
        return PromptCodec(tokenizer_of(self.artifact.read(TOKENIZER), place), self.manifest.prompt)
