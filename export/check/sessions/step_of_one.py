"""The decode step of several requests as a session of one: what is checked runs beside others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ....profiles import signature as sig
from ....profiles.flops import DecoderDims
from ....profiles.kv_layout import ROWS_AXIS, rows_of, take_rows
from ....runtime.batching.batch import Batch, Member, MemberRows
from ....runtime.decoding.beam_tree import BeamTree
from ....runtime.session import StepSession

MOST = 3  # requests of a step, unless a backend takes fewer

Array = npt.NDArray[Any]
Feed = Mapping[str, Array]


@dataclass
class _Kept:
    """A session that keeps the outputs of its last run."""

    session: StepSession
    outputs: dict[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        self.outputs = self.session.run(inputs)
        return self.outputs


class StepOfOne:
    """A session of `decode_signature` over one of `step_signature`.

    A step of one request shares the batch of production with the two before it, whose prefixes, pools and
    numbers of beams differ: the first of these goes on with one beam, so that rows are padded.
    """

    def __init__(self, session: StepSession, dims: DecoderDims, *, most: int = MOST) -> None:
        """Take a session, for `most` requests in a step; with 1, values inside are those of one request."""
        self._session, self._dims, self._most = session, dims, most
        self._before: list[Feed] = []

    @property
    def number_bytes(self) -> int:
        """Bytes of one number of the pool."""
        return self._session.number_bytes

    @property
    def prefix_number_bytes(self) -> int:
        """The same of the prompt's keys and values."""
        return self._session.prefix_number_bytes

    def run(self, inputs: Feed) -> dict[str, Array]:
        """The outputs for one request, and whatever else the session gives."""
        kept = _Kept(self._session)
        batch: Any = Batch(kept, self._dims, _fixed(inputs, self._dims))
        first = self._before[max(0, len(self._before) + 1 - self._most) :]
        members = [self._joined(batch, feed) for feed in (*first, inputs)]
        tops = batch.step(
            [_rows(member, feed) for member, feed in zip(members, (*first, inputs), strict=True)]
        )
        self._before = [*(_with_one_beam(feed) for feed in self._before[-1:]), inputs]
        place, beams = len(members) - 1, len(inputs[sig.TOKEN_IDS])
        found = {name: self._session.read(value) for name, value in kept.outputs.items()}
        grown = {
            sig.grown(pool): np.concatenate(
                [inputs[pool], take_rows(found[new][place], slice(beams))], axis=ROWS_AXIS
            )
            for i in range(self._dims.num_layers)
            for pool, new in ((sig.pool_key(i), sig.new_key(i)), (sig.pool_value(i), sig.new_value(i)))
        }
        top = tops[-1]
        scores = {sig.TOP_LOGITS: top.logits, sig.TOP_IDS: top.ids, sig.LOG_SUM_EXP: top.log_sum_exp}
        return {**found, **scores, **grown}

    def read(self, tensor: Array) -> Array:
        """The array itself."""
        return tensor

    def rows_of(self, tensor: Array) -> int:
        """Rows of a cache tensor."""
        return rows_of(tensor.shape)

    def _joined(self, batch: Batch, feed: Feed) -> Member:
        layers = range(self._dims.num_layers)
        prefix = {
            name: self._session.prefix(feed[name])
            for i in layers
            for name in (sig.prefix_key(i), sig.prefix_value(i))
        }
        member = batch.member_of(prefix)
        batch.join(member, prefix)
        mask = feed[sig.POOL_MASK]
        seen = mask[:, : mask.shape[1] - len(mask)]
        tree = BeamTree.resumed(seen, int(feed[sig.STEP][0]))
        batch.resume(member, tree, {name: feed[name] for i in layers for name in _pool_names(i)})
        return member


def step_feed(feed: Feed, dims: DecoderDims) -> dict[str, Array]:
    """The inputs of a step of one request as a graph whose steps take several wants them."""
    mask, tokens = feed[sig.POOL_MASK], feed[sig.TOKEN_IDS]
    layers = range(dims.num_layers)
    caches = {name: feed[name][None] for i in layers for name in sig.cache_names(i)}
    lengths = [[rows_of(feed[sig.prefix_key(i)].shape)] for i in layers]
    return {
        sig.TOKEN_IDS: tokens[None],
        sig.PREFIX_LENGTHS: np.array(lengths),
        sig.STEPS: feed[sig.STEP],
        sig.POOL_MASK: mask[None, :, : mask.shape[1] - len(tokens)],
        sig.NUM_CANDIDATES: feed[sig.NUM_CANDIDATES],
        **_fixed(feed, dims),
        **caches,
    }


def step_results(outputs: Mapping[str, Array], feed: Feed, dims: DecoderDims) -> dict[str, Array]:
    """What such a graph gives, from the outputs of a step of one request: new rows instead of grown pools."""
    beams, new = len(feed[sig.TOKEN_IDS]), _new_names(dims)
    return {
        new.get(name, name): take_rows(array, slice(-beams, None))[None] if name in new else array
        for name, array in outputs.items()
    }


def step_outputs(values: Sequence[str], dims: DecoderDims) -> list[str]:
    """The outputs of a step from which these values can be told, grown pools among them."""
    new = _new_names(dims)
    own = sig.TOP_LOGITS, sig.TOP_IDS, sig.LOG_SUM_EXP, *new.values()
    return list(dict.fromkeys((*own, *(new.get(value, value) for value in values))))


def _new_names(dims: DecoderDims) -> dict[str, str]:
    """The output with the grown pool, of a step of one request -> that with its new rows, of several."""
    return {
        sig.grown(pool): made
        for i in range(dims.num_layers)
        for pool, made in zip(_pool_names(i), (sig.new_key(i), sig.new_value(i)), strict=True)
    }


def _pool_names(layer: int) -> Sequence[str]:
    return sig.pool_key(layer), sig.pool_value(layer)


def _fixed(feed: Feed, dims: DecoderDims) -> dict[str, Array]:
    """Inputs of a request that all of its steps have."""
    caches = {name for i in range(dims.num_layers) for name in sig.cache_names(i)}
    own = {sig.TOKEN_IDS, sig.STEP, sig.POOL_MASK, sig.NUM_CANDIDATES}
    return {name: array for name, array in feed.items() if name not in caches | own}


def _rows(member: Member, feed: Feed) -> MemberRows:
    tokens = feed[sig.TOKEN_IDS]
    return MemberRows(member, tokens, np.arange(len(tokens)), int(feed[sig.NUM_CANDIDATES][0]))


def _with_one_beam(feed: Feed) -> Feed:
    """The first beam of a step by itself."""
    beams = len(feed[sig.TOKEN_IDS])
    mask = feed[sig.POOL_MASK]
    return {
        **feed,
        sig.TOKEN_IDS: feed[sig.TOKEN_IDS][:1],
        sig.POOL_MASK: mask[:1, : mask.shape[1] - beams + 1],
    }
