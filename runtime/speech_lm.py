"""A speech language model, loaded from an artifact: audio and a prompt in, text and latency out."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..profiles import signature as sig
from ..profiles.errors import AudioError, RequestError
from .artifact import Artifact, open_artifact
from .audio import Audio, Source, load_audio
from .beam_search import Hypothesis, SearchOptions, generate, greedy_tokens
from .decoding import SessionDecoder
from .log_mel import encoder_rows, log_mel_windows
from .metrics import Latency, Stopwatch
from .onnxruntime_session import CPU, OnnxRuntimeSession
from .prompt import PromptCodec, PromptIds
from .session import Session

ENCODER_ROWS_A_TOKEN = 2


@dataclass(frozen=True)
class TextHypothesis:
    """One answer, as text."""

    text: str
    tokens: tuple[int, ...]  # without the end token
    finished: bool  # ended by an end token rather than by max_new_tokens
    score: float  # sum of log-probabilities / length ** length_penalty


@dataclass(frozen=True)
class GenerationResult:
    """The answer to one request."""

    text: str  # of the best hypothesis; empty where the artifact has no tokenizer
    hypotheses: tuple[TextHypothesis, ...]  # best first
    latency: Latency
    audio_seconds: float
    profile: str
    prefix_lengths: tuple[int, ...]  # rows of the prompt that each layer keeps
    kept_ratio: float  # audio rows kept, summed over the layers / (layers * audio rows)
    kv_bytes: int  # prefix, shared by all beams, plus the pool at its largest


@dataclass(frozen=True)
class _Request:
    """Inputs of the decoder, ready to run."""

    audio_seconds: float
    audio_rows: int
    prompt: PromptIds
    inputs: dict[str, npt.NDArray[Any]]
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
        *,
        threads: int = 0,
        providers: Sequence[str] = (CPU,),
        prepack: bool = True,
    ) -> None:
        """Load the sessions of a verified artifact; `load` opens one and says what the arguments mean."""
        self.artifact, self.manifest = artifact, artifact.manifest
        self.profile = self._known_profile(profile or next(iter(self.manifest.profiles)))
        self._threads, self._providers = threads, tuple(providers)
        graphs = self.manifest.graphs
        self._encoder = self._session(graphs.encoder)
        self._decode = self._session(graphs.decode, prepack)
        self._prefills: dict[str, Session] = {}
        self._lock = threading.Lock()
        self._codec = self._load_codec()
        self._prefill(self.profile)

    @classmethod
    def load(
        cls,
        artifact: str | os.PathLike[str],
        profile: str | None = None,
        *,
        threads: int = 0,
        providers: Sequence[str] = (CPU,),
        prepack: bool = True,
        verify: bool = False,
    ) -> SpeechLM:
        """Load an artifact.

        Args:
            artifact: the folder that `build` wrote.
            profile: default profile of the calls; the first of the artifact if None.
            threads: threads of one run; 0 takes one a core.
            providers: execution providers of ONNX Runtime, the preferred one first.
            prepack: keep a second copy of the decoder weights that makes beam steps faster; without it the
                memory-mapped weights are all there is.
            verify: hash large weight files whole, not by sampled blocks.

        Raises:
            ArtifactError: missing, changed or of another version.
            RequestError: unknown profile or provider.
        """
        opened = open_artifact(Path(artifact), full=verify)
        return cls(opened, profile, threads=threads, providers=providers, prepack=prepack)

    @property
    def profiles(self) -> tuple[str, ...]:
        """The profiles of the artifact."""
        return tuple(self.manifest.profiles)

    @property
    def max_audio_seconds(self) -> float:
        """The longest audio that the positions allow, with a prompt of no text."""
        return self._seconds_of(self.manifest.decoder.max_positions)

    def generate(
        self,
        audio: Source,
        prompt: str | PromptIds = "",
        *,
        profile: str | None = None,
        source_rate: int | None = None,
        **options: Any,
    ) -> GenerationResult:
        """Answer a request.

        Args:
            audio: a path, bytes, a binary stream, or an array of samples.
            prompt: text for the model's template, text that names the place of the audio itself, or ids.
            profile: a profile of the artifact, if not the default.
            source_rate: Hz of an array, if not the model's.
            options: fields of `SearchOptions`: num_beams, max_new_tokens, length_penalty, …; the end tokens
                are the model's unless `eos_token_ids` is given.

        Raises:
            AudioError: audio that is missing, corrupt, too short or too long.
            RequestError: options out of range, unknown profile.
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
        audio: Source,
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
        return _pieces(self._codec, tokens)

    def search_options(self, **options: Any) -> SearchOptions:
        """Search options with the model's end tokens as default.

        Raises:
            RequestError: unknown names, values out of range.
        """
        known = SearchOptions.__dataclass_fields__
        if unknown := [name for name in options if name not in known]:
            raise RequestError(f"option {', '.join(unknown)} is unknown; known: {', '.join(known)}")
        return SearchOptions(**{"eos_token_ids": self.manifest.decoder.eos_token_ids, **options})

    def embed(self, audio: Audio) -> npt.NDArray[np.float32]:
        """Encode audio to decoder rows: (audio rows, hidden_size). Windows are joined to one span."""
        return self._embed(audio, Stopwatch())

    def decoder(
        self,
        profile: str | None,
        before: npt.NDArray[np.int64],
        rows: npt.NDArray[np.float32],
        after: npt.NDArray[np.int64],
        watch: Stopwatch | None = None,
    ) -> SessionDecoder:
        """A decoder over a prompt of ids and audio rows, for callers with a search of their own."""
        inputs = {sig.PREFIX_IDS: before, sig.AUDIO_EMBEDS: rows, sig.SUFFIX_IDS: after}
        session = self._prefill(self._known_profile(profile or self.profile))
        return SessionDecoder(session, self._decode, self._dims, inputs, watch or Stopwatch())

    def encode_mel(self, mel: npt.NDArray[np.float32], encoder_rows: int) -> npt.NDArray[np.float32]:
        """One window of log-mel frames (bins, frames) to decoder rows."""
        outputs = self._encoder.run({sig.MEL: mel, sig.ENCODER_ROWS: np.array([encoder_rows])})
        rows: npt.NDArray[np.float32] = self._encoder.read(outputs[sig.AUDIO_EMBEDS])
        return rows

    @property
    def _dims(self) -> Any:
        return self.manifest.decoder.dims

    @property
    def _place(self) -> str:
        return f"artifact {self.artifact.folder}"

    def _begin(
        self,
        source: Source,
        prompt: str | PromptIds,
        profile: str | None,
        source_rate: int | None,
        search: SearchOptions,
        watch: Stopwatch,
    ) -> tuple[SessionDecoder, _Request, str]:
        name = self._known_profile(profile or self.profile)
        ids = self._encode(prompt)
        with watch.stage("audio"):
            audio = load_audio(source, self.manifest.front_end.log_mel.sample_rate, source_rate=source_rate)
        self._check_length(audio, ids, search.max_new_tokens)
        rows = self._embed(audio, watch)
        request = self._request(audio, rows, ids)
        return self.decoder(name, ids.before, rows, ids.after, watch), request, name

    def _request(self, audio: Audio, rows: npt.NDArray[np.float32], ids: PromptIds) -> _Request:
        audio_ids = self.manifest.prompt.audio_token_ids if self.manifest.prompt else ()
        penalised = (*ids.before.tolist(), *audio_ids, *ids.after.tolist())
        return _Request(audio.seconds, len(rows), ids, {}, penalised)

    def _embed(self, audio: Audio, watch: Stopwatch) -> npt.NDArray[np.float32]:
        windows = log_mel_windows(audio.samples, self.manifest.front_end.log_mel)
        parts = []
        while True:
            with watch.stage("mel"):
                window = next(windows, None)
            if window is None:
                return self._join(parts)
            if window.encoder_rows >= ENCODER_ROWS_A_TOKEN:
                with watch.stage("encoder"):
                    parts.append(self.encode_mel(window.mel, window.encoder_rows))

    def _join(self, parts: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        """One span of several windows: the rows around the frames stand only at its two ends."""
        bos, eos = self.manifest.front_end.bos_rows, self.manifest.front_end.eos_rows
        last = len(parts) - 1
        cut = [part[bos if i else 0 : len(part) - (eos if i < last else 0)] for i, part in enumerate(parts)]
        return np.concatenate(cut)

    def _audio_rows(self, num_samples: int) -> int:
        """Decoder rows of so many samples."""
        config, front_end = self.manifest.front_end.log_mel, self.manifest.front_end
        whole, rest = divmod(num_samples, config.window_samples)
        full = encoder_rows(config.window_samples, config) // ENCODER_ROWS_A_TOKEN
        last = encoder_rows(rest, config) // ENCODER_ROWS_A_TOKEN if rest else 0
        frames = whole * full + last
        return frames + front_end.bos_rows + front_end.eos_rows if frames else 0

    def _seconds_of(self, rows: int) -> float:
        """The longest audio, in seconds, that gives at most so many decoder rows."""
        config, front_end = self.manifest.front_end.log_mel, self.manifest.front_end
        frames = max(0, rows - front_end.bos_rows - front_end.eos_rows)
        samples_a_row = 2 * ENCODER_ROWS_A_TOKEN * config.hop_length
        return frames * samples_a_row / config.sample_rate

    def _check_length(self, audio: Audio, ids: PromptIds, max_new_tokens: int) -> None:
        rows = self._audio_rows(len(audio.samples))
        if not rows:
            least = self._seconds_of(1 + self.manifest.front_end.bos_rows + self.manifest.front_end.eos_rows)
            raise AudioError(
                f"audio of {audio.seconds * 1e3:.1f} ms gives no audio token; at least {least * 1e3:.0f} ms is needed"
            )
        free = self.manifest.decoder.max_positions - ids.num_text_rows - max_new_tokens
        if rows > free:
            raise AudioError(
                f"audio of {audio.seconds:.1f} s takes {rows} rows; with {ids.num_text_rows} of prompt and "
                f"max_new_tokens {max_new_tokens} this model's {self.manifest.decoder.max_positions} positions "
                f"hold at most {self._seconds_of(max(0, free)):.1f} s: cut the audio or ask for fewer tokens"
            )

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
        kept = sum(lengths) - len(lengths) * request.prompt.num_text_rows
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
            prefix_lengths=lengths,
            kept_ratio=kept / (len(lengths) * request.audio_rows),
            kv_bytes=decoder.cache.size_bytes,
        )

    def _known_profile(self, name: str) -> str:
        if name not in self.manifest.profiles:
            known = ", ".join(self.manifest.profiles)
            raise RequestError(f"profile {name!r} is not in this artifact; it has: {known}")
        return name

    def _session(self, name: str, prepack: bool = False) -> Session:
        return OnnxRuntimeSession(
            self.artifact.path(name), threads=self._threads, providers=self._providers, prepack=prepack
        )

    def _prefill(self, profile: str) -> Session:
        with self._lock:
            if profile not in self._prefills:
                self._prefills[profile] = self._session(self.manifest.graphs.prefill[profile])
            return self._prefills[profile]

    def _load_codec(self) -> PromptCodec | None:
        path = self.artifact.tokenizer
        return PromptCodec(path, self.manifest.prompt) if path and self.manifest.prompt else None


def _pieces(codec: PromptCodec, tokens: Iterator[int]) -> Iterator[str]:
    """The text that each token adds; a token that completes no character adds an empty piece."""
    seen: list[int] = []
    shown = ""
    for token in tokens:
        seen.append(token)
        text = codec.decode(seen)
        if text.endswith("\N{REPLACEMENT CHARACTER}"):
            continue
        yield text[len(shown) :]
        shown = text


__all__ = ["GenerationResult", "PromptIds", "SearchOptions", "SpeechLM", "TextHypothesis"]
