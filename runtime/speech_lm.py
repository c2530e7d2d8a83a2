"""A speech language model, loaded from an artifact: audio and a prompt in, text and latency out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..profiles import signature as sig
from ..profiles.errors import RequestError
from ..profiles.flops import DecoderDims
from .artifact.artifact import Artifact, open_artifact
from .audio.encoder import AudioEncoder, EncodedAudio
from .audio.read import Audio, Source, load_audio, place_of
from .backends import open_sessions
from .decoding.beam_search import Hypothesis, generate, greedy_tokens
from .decoding.options import SearchOptions
from .decoding.session_decoder import SessionDecoder
from .latency import Stopwatch
from .limits import check_audio, check_engines, check_ids, check_length
from .prompt import PromptCodec, PromptIds
from .results import GenerationResult, TextHypothesis
from .runtime_options import RuntimeOptions

DEFAULTS = RuntimeOptions()


@dataclass(frozen=True)
class _Request:
    """Inputs of the decoder, ready to run."""

    audio_seconds: float
    audio_rows: int
    prompt: PromptIds
    penalised_ids: tuple[int, ...]


class SpeechLM:
    """A loaded model. Its methods may be called from many threads at once.

    Profiles share one decode session and one copy of the weights; a profile's prefill graph is loaded when
    it is first used.
    """

    def __init__(
        self,
        artifact: Artifact,
        profile: str | None = None,
        options: RuntimeOptions = DEFAULTS,
    ) -> None:
        """Load the sessions of a verified artifact; `load` opens one and says what the options mean."""
        self.artifact, self.manifest = artifact, artifact.manifest
        self.profile = self._known_profile(profile or next(iter(self.manifest.profiles)))
        self._sessions = open_sessions(artifact, options)
        self.audio_encoder = AudioEncoder(self._sessions.encoder, self.manifest.front_end)
        self._codec = self._load_codec()
        self._sessions.prefill(self.profile)

    @classmethod
    def load(
        cls,
        artifact: str | os.PathLike[str],
        profile: str | None = None,
        *,
        backend: str = DEFAULTS.backend,
        threads: int = DEFAULTS.threads,
        providers: Sequence[str] = DEFAULTS.providers,
        prepack: bool = DEFAULTS.prepack,
        verify: bool = False,
    ) -> SpeechLM:
        """Load an artifact.

        Args:
            artifact: the folder that `build` wrote.
            profile: default profile of the calls; the first of the artifact if None.
            backend: "onnxruntime", or "tensorrt" for an artifact with engines on the GPU they were built for.
            threads: of one run of ONNX Runtime; 0 takes one a core.
            providers: execution providers of ONNX Runtime, the preferred one first.
            prepack: for ONNX Runtime, keep a second copy of the decoder weights that makes beam steps faster;
                without it the memory-mapped weights, which all sessions share, are all there is, and working
                memory is given back after each prefill.
            verify: hash large weight files whole, not by sampled blocks.

        Raises:
            ArtifactError: missing, changed or of another version.
            RequestError: unknown profile, backend or provider.
            EngineError: engines that do not fit this machine, with every field that differs.
            DependencyError: a package that the backend needs is missing.
        """
        opened = open_artifact(Path(artifact), full=verify)
        options = RuntimeOptions(backend, threads, tuple(providers), prepack)
        return cls(opened, profile, options)

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

    def encode(self, audio: Source, *, source_rate: int | None = None) -> EncodedAudio:
        """Read and encode audio once, for any number of requests about it, under any profile.

        Args:
            audio: a path, bytes, a binary stream, or an array of samples.
            source_rate: Hz of an array, if not the model's.

        Raises:
            AudioError: audio that is missing, corrupt, too short, or too long for the positions of the model.
            EngineError: the encoder fails, mostly for want of memory.
        """
        watch, place = Stopwatch(), place_of(audio)
        heard = self._read(audio, source_rate, watch)
        check_audio(self.manifest, place, heard)
        rows = self.audio_encoder.encode(heard.samples, watch)
        stages = {name: watch.stages[name] for name in ("audio", "mel", "encoder")}
        return EncodedAudio(place, heard, rows, stages, self.audio_encoder)

    def generate(
        self,
        audio: Source | EncodedAudio,
        prompt: str | PromptIds = "",
        *,
        profile: str | None = None,
        source_rate: int | None = None,
        **options: Any,
    ) -> GenerationResult:
        """Answer a request.

        Args:
            audio: a path, bytes, a binary stream, an array of samples, or what `encode` made of one. Then the
                latency begins after the encoder: its stages up to there are 0.
            prompt: text for the model's template, text that names the place of the audio itself, or ids.
            profile: a profile of the artifact, if not the default.
            source_rate: Hz of an array, if not the model's.
            options: fields of `SearchOptions`: num_beams, max_new_tokens, length_penalty, …; the end tokens
                are the model's unless `eos_token_ids` is given.

        Raises:
            AudioError: audio that is missing, corrupt, too short or too long.
            RequestError: options out of range, unknown profile, audio that another model has encoded.
            EngineError: a graph or an engine fails, mostly for want of memory.
        """
        watch = Stopwatch()
        search = self.search_options(**options)
        decoder, request, name = self._begin(audio, prompt, profile, source_rate, search, watch)
        found = generate(decoder, search, vocab_size=self._dims.vocab_size, prompt_ids=request.penalised_ids)
        watch.mark_last_token()
        with watch.stage("detokenize"):
            hypotheses = tuple(self._text_hypothesis(hypothesis) for hypothesis in found)
        return self._result(name, request, decoder, hypotheses, watch, streamed=search.num_beams == 1)

    def stream(
        self,
        audio: Source | EncodedAudio,
        prompt: str | PromptIds = "",
        *,
        profile: str | None = None,
        source_rate: int | None = None,
        **options: Any,
    ) -> Iterator[str]:
        """Greedy search, token by token: each piece is the text that a token adds. Errors as `generate`.

        Faults of the request are raised by this call, before the first piece is asked for.
        """
        search = self.search_options(**options)
        if self._codec is None:
            raise RequestError(f"{self._place}: it has no tokenizer, so there is no text to stream")
        decoder, request, _ = self._begin(audio, prompt, profile, source_rate, search, Stopwatch())
        vocab_size = self._dims.vocab_size
        tokens = greedy_tokens(decoder, search, vocab_size=vocab_size, prompt_ids=request.penalised_ids)
        return self._codec.stream(tokens)

    def search_options(self, **options: Any) -> SearchOptions:
        """Search options with the model's end tokens as default.

        Raises:
            RequestError: unknown names, values out of range.
        """
        known = SearchOptions.__dataclass_fields__
        if unknown := [name for name in options if name not in known]:
            raise RequestError(f"option {', '.join(unknown)} is unknown; known: {', '.join(known)}")
        return SearchOptions(**{"eos_token_ids": self.manifest.decoder.eos_token_ids, **options})

    def decoder(
        self,
        profile: str | None,
        before: npt.NDArray[np.int64],
        rows: npt.NDArray[np.float32],
        after: npt.NDArray[np.int64],
        watch: Stopwatch | None = None,
    ) -> SessionDecoder:
        """A decoder over a prompt of ids and audio rows, for callers with a search of their own."""
        inputs: dict[str, npt.NDArray[Any]] = {
            sig.PREFIX_IDS: before,
            sig.AUDIO_EMBEDS: rows,
            sig.SUFFIX_IDS: after,
        }
        prefill = self._sessions.prefill(self._known_profile(profile or self.profile))
        return SessionDecoder(prefill, self._sessions.decode, self._dims, inputs, watch or Stopwatch())

    @property
    def _dims(self) -> DecoderDims:
        return self.manifest.decoder.dims

    @property
    def _place(self) -> str:
        return f"artifact {self.artifact.folder}"

    def _begin(
        self,
        source: Source | EncodedAudio,
        prompt: str | PromptIds,
        profile: str | None,
        source_rate: int | None,
        search: SearchOptions,
        watch: Stopwatch,
    ) -> tuple[SessionDecoder, _Request, str]:
        name = self._known_profile(profile or self.profile)
        ids = self._encode(prompt)
        check_ids(self.manifest, ids, name)
        place, audio, rows = self._heard(source, source_rate, watch)
        check_length(self.manifest, place, audio, ids, search.max_new_tokens)
        if self._sessions.limits:
            check_engines(self.manifest, self._sessions.limits, place, audio, ids, search)
        if rows is None:
            rows = self.audio_encoder.encode(audio.samples, watch)
        request = self._request(audio, rows, ids)
        return self.decoder(name, ids.before, rows, ids.after, watch), request, name

    def _heard(
        self, source: Source | EncodedAudio, source_rate: int | None, watch: Stopwatch
    ) -> tuple[str, Audio, npt.NDArray[np.float32] | None]:
        """How messages call the audio, its samples, and its rows where they are known already."""
        if not isinstance(source, EncodedAudio):
            return place_of(source), self._read(source, source_rate, watch), None
        if source.encoder is not self.audio_encoder:
            raise RequestError(f"{source.place} was encoded by another model; encode it with this one")
        return source.place, source.audio, source.rows

    def _read(self, source: Source, source_rate: int | None, watch: Stopwatch) -> Audio:
        with watch.stage("audio"):
            return load_audio(source, self.manifest.front_end.log_mel.sample_rate, source_rate=source_rate)

    def _request(self, audio: Audio, rows: npt.NDArray[np.float32], ids: PromptIds) -> _Request:
        audio_ids = self.manifest.prompt.audio_token_ids if self.manifest.prompt else ()
        penalised = (*ids.before.tolist(), *audio_ids, *ids.after.tolist())
        return _Request(audio.seconds, len(rows), ids, penalised)

    def _encode(self, prompt: str | PromptIds) -> PromptIds:
        if isinstance(prompt, PromptIds):
            return prompt
        if self._codec is None:
            raise RequestError(f"{self._place}: it has no tokenizer; give the prompt as PromptIds")
        return self._codec.encode(prompt)

    def _text_hypothesis(self, found: Hypothesis) -> TextHypothesis:
        text = self._codec.decode(found.tokens) if self._codec else ""
        return TextHypothesis(text, found.tokens, found.finished, found.score)

    def _result(
        self,
        name: str,
        request: _Request,
        decoder: SessionDecoder,
        hypotheses: tuple[TextHypothesis, ...],
        watch: Stopwatch,
        streamed: bool,
    ) -> GenerationResult:
        best = hypotheses[0]
        lengths = decoder.cache.prefix_lengths
        text_rows = request.prompt.num_text_rows
        kept = sum(lengths) - len(lengths) * text_rows
        latency = watch.latency(
            output_tokens=len(best.tokens) + best.finished,
            audio_seconds=request.audio_seconds,
            streamed=streamed,
        )
        return GenerationResult(
            text=best.text,
            hypotheses=hypotheses,
            latency=latency,
            audio_seconds=request.audio_seconds,
            profile=name,
            text_rows=text_rows,
            prefix_lengths=lengths,
            kept_ratio=kept / (len(lengths) * request.audio_rows),
            kv_bytes=decoder.cache.size_bytes,
        )

    def _known_profile(self, name: str) -> str:
        if name not in self.manifest.profiles:
            known = ", ".join(self.manifest.profiles)
            raise RequestError(f"profile {name!r} is not in this artifact; it has: {known}")
        return name

    def _load_codec(self) -> PromptCodec | None:
        path = self.artifact.tokenizer
        return PromptCodec(path, self.manifest.prompt) if path and self.manifest.prompt else None


__all__ = ["EncodedAudio", "GenerationResult", "PromptIds", "SearchOptions", "SpeechLM", "TextHypothesis"]
