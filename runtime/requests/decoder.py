"""The decoder of a request, and the inputs that its prompt fixes for prefill and steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...profiles import signature as sig
from ...profiles.errors import RequestError
from ...profiles.flops import ResolvedProfile
from ..artifact.manifest import Manifest
from ..batching.decoder import BatchedDecoder
from ..decoding.answer_sizes import AnswerSizes
from ..decoding.session_decoder import SessionDecoder
from ..latency import Stopwatch
from ..prompt import Ids
from .loaded import LoadedModel

Inputs = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class DecoderPrompt:
    """What a decoder reads before its answer."""

    before: Ids  # (text_before,)
    rows: npt.NDArray[np.float32]  # as an `AudioEncoder` gives them
    after: Ids  # (text_after,)
    adapter: Ids | None  # (adapter,): those that a prompt adapter reads, for a model that has one

    def __len__(self) -> int:
        """Its rows, before any reduction."""
        return len(self.before) + len(self.rows) + len(self.after)

    def inputs(self, resolved: ResolvedProfile, hidden_size: int) -> Inputs:
        """Those of the prefill of a profile alone.

        Raises:
            RequestError: rows without what the profile takes, or with more than an encoder says.
        """
        rows, weights = (np.ascontiguousarray(part) for part in np.split(self.rows, [hidden_size], axis=1))
        expected = {sig.NUM_ROW_WEIGHTS} if resolved.takes_row_weights else {0, sig.NUM_ROW_WEIGHTS}
        if weights.shape[1] not in expected:
            raise RequestError(
                f"rows of {self.rows.shape[1]} numbers: profile {resolved.name} ({resolved.method}) takes "
                f"{' or '.join(str(hidden_size + count) for count in sorted(expected))}, "
                f"{sig.NUM_ROW_WEIGHTS} of which are the attention in the encoder; give rows as it made them"
            )
        taken = {sig.ROW_WEIGHTS: weights} if resolved.takes_row_weights else {}
        return {sig.PREFIX_IDS: self.before, sig.AUDIO_EMBEDS: rows, **taken, sig.SUFFIX_IDS: self.after}


def new_decoder(
    model: LoadedModel,
    profile: str | None,
    prompt: DecoderPrompt,
    watch: Stopwatch,
    sizes: AnswerSizes | None,
) -> BatchedDecoder | SessionDecoder:
    """A decoder over a prompt; given the `sizes` of the answer, it shares steps with others where
    the backend can.

    Raises:
        RequestError: the model is closed, an unknown profile, no ids for the prompt adapter, or rows that
            the profile does not take.
    """
    batcher = model.batcher  # before the sessions: a model that is closed meanwhile has none of them
    sessions, name = model.sessions, model.profile_named(profile)
    fixed, of_steps = _long_context_inputs(model.manifest, name, len(prompt))
    fixed |= request_inputs(model, prompt.adapter, watch)
    prefill = sessions.prefill(name)
    inputs = prompt.inputs(model.manifest.profiles[name], model.dims.hidden_size)
    if batcher:
        return BatchedDecoder(prefill, batcher, inputs, watch, sizes, fixed, of_steps)
    return SessionDecoder(prefill, sessions.decode, model.dims, inputs, watch, fixed, of_steps)


def request_inputs(model: LoadedModel, adapter: Ids | None, watch: Stopwatch) -> Inputs:
    """What prefill and steps of a request take alike, from the ids of its prompt adapter.

    Raises:
        RequestError: no such ids, and the model has a prompt adapter.
    """
    if not model.manifest.decoder.has_prompt_adapter:
        return {}
    if adapter is None:
        raise RequestError("prompt ids: those for the prompt adapter are missing; give them, too")
    session = model.sessions.prompt_adapter()
    return {sig.LORA_SCALE: model.prompt_adapter.strength(session, adapter, watch)}


def _long_context_inputs(manifest: Manifest, profile: str, prompt_rows: int) -> list[Inputs]:
    """What prefill and steps take of a prompt so long, before any reduction; and what only steps take."""
    if (context := manifest.decoder.long_context) is None:
        return [{}, {}]
    evicts = manifest.profiles[profile].is_of_caches
    values = {
        sig.ROPE_ALPHA: np.array([context.rope_alpha(prompt_rows)], np.float32),
        sig.ROWS_BEFORE_EVICTION: np.array([prompt_rows if evicts else 0]),
    }
    taken = context.request_inputs, context.step_inputs
    return [{tensor.name: values[tensor.name] for tensor in tensors} for tensors in taken]
