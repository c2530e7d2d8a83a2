"""The limit of the memory of one request: checked with the length of its audio, before it is encoded."""

from __future__ import annotations

from dataclasses import dataclass

from ...profiles.errors import RequestMemoryError
from ...profiles.flops import ResolvedProfile
from ..artifact.manifest import Manifest
from ..audio.recording import CheckLength
from ..decoding.answer_sizes import AnswerSizes
from ..sessions import Sessions
from .bound import ModelSizes, RequestMemory, encoding_memory, request_memory

CUT = "cut the audio"
MEGABYTES = 1e5  # bytes from which a size is told in them: fewer would be 0.0


@dataclass(frozen=True)
class MemoryLimit:
    """What a request may add to a loaded model."""

    most: int | None  # bytes; None: there is no limit
    model: ModelSizes

    def of_encoding(self, place: str, seconds: float) -> None:
        """Refuse audio that cannot be encoded within the limit.

        Raises:
            RequestMemoryError: it is too long; `place` says where it comes from.
        """
        if self.most is not None:
            self._check(encoding_memory(self.model, self._samples(seconds)), f"{place}: {_s(seconds)}", CUT)

    def of_request(
        self, profile: ResolvedProfile, sizes: AnswerSizes, encoded: bool, shorter: str = CUT
    ) -> CheckLength:
        """What refuses audio that cannot be answered within the limit.

        Args:
            profile: how it is reduced.
            sizes: text, beams and new tokens, and a text to score.
            encoded: it was heard before.
            shorter: how messages say what gives shorter audio.
        """

        def check(place: str, seconds: float) -> None:
            if self.most is None:
                return
            taken = self.taken(profile, seconds, sizes, encoded)
            what, fewer = _what(sizes), "ask for fewer beams or tokens"
            if sizes.scored_tokens:
                fewer += ", score a shorter text or none"
            request = f"{place}: {_s(seconds)} under profile {profile.name} with {what}"
            remedies = f"{shorter}, {fewer}, take a profile that reduces more"
            self._check(taken, request, remedies)

        return check

    def taken(
        self, profile: ResolvedProfile, seconds: float, sizes: AnswerSizes, encoded: bool = False
    ) -> RequestMemory:
        """What a request may take."""
        return request_memory(self.model, profile, self._samples(seconds), sizes, encoded)

    def _check(self, taken: RequestMemory, request: str, remedies: str) -> None:
        if self.most is not None and taken.peak > self.most:
            raise RequestMemoryError(
                f"{request} may take {taken.peak} bytes ({_size(taken.peak)}) beside the loaded model, "
                f"and max_request_bytes allows {self.most} ({_size(self.most)}): "
                f"{remedies}, or raise the limit (--max-request-memory)"
            )

    def _samples(self, seconds: float) -> int:
        return round(seconds * self.model.front_end.log_mel.sample_rate)


def _what(sizes: AnswerSizes) -> str:
    beams = f"{sizes.num_beams} beam{'s' * (sizes.num_beams > 1)}, {sizes.max_new_tokens} new tokens"
    return f"{beams}, scored_text of {sizes.scored_tokens} tokens" if sizes.scored_tokens else beams


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= MEGABYTES else f"{num_bytes / 1e3:.1f} kB"


def _s(seconds: float) -> str:
    return f"{seconds:.2f} s"


def sizes_of(manifest: Manifest, sessions: Sessions, max_batch: int = 1) -> ModelSizes:
    """Those of an artifact as a backend has loaded it, for so many requests that are decoded together."""
    prefix, pool = sessions.decode.prefix_number_bytes, sessions.decode.number_bytes
    return ModelSizes(
        decoder=manifest.decoder.dims,
        front_end=manifest.front_end,
        tower=manifest.tower,
        quantized=any(graphs.quantized for graphs in manifest.graphs.values()),
        prefix_item=prefix,
        pool_item=pool,
        in_place=sessions.steps is not None,
        shares_steps=sessions.steps is not None and max_batch > 1,
        planned=sessions.planned,
        unrolled=sessions.unrolled,
        keeps_looks=manifest.decoder.word_heads is not None,
        weighs_rows=manifest.weighs_rows,
    )
