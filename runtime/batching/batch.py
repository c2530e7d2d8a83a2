"""One batch: requests that share decode steps, a row of the buffers for each. Threads take turns at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...profiles import signature as sig
from ...profiles.flops import DecoderDims
from ...profiles.kv_layout import rows_of
from ..decoding.beam_tree import BeamTree, Mask
from ..decoding.kv_cache import cache_bytes
from ..decoding.search import TopTokens
from ..session import NewRows, StepBuffers, StepSession, Tensor

Array = npt.NDArray[Any]
Ids = npt.NDArray[np.int64]


class Member:
    """What a batch knows of one request."""

    def __init__(self, session: StepSession, dims: DecoderDims, lengths: Sequence[int]) -> None:
        """With so many rows of the prefix in each layer."""
        self._session, self._dims = session, dims
        self.prefix_lengths = tuple(lengths)
        self.tree = BeamTree()
        self.left = False  # its row is free

    @property
    def size_bytes(self) -> int:
        """Bytes of the prefix and of the pool at its largest, without the room behind rows in use."""
        return cache_bytes(self._session, self._dims, self.prefix_lengths, self.tree.largest)


@dataclass(frozen=True)
class MemberRows:
    """The rows of one request that a step scores: row i is old row `parents[i]` and then `tokens[i]`."""

    member: Member
    tokens: Ids
    parents: Ids
    k: int


class Batch:
    """Members by the rows of their buffers, which are there while any member is."""

    def __init__(self, session: StepSession, dims: DecoderDims, fixed: Mapping[str, Array]) -> None:
        """Of requests that have these inputs of steps in common."""
        self._session, self._dims, self._fixed = session, dims, dict(fixed)
        self._members: list[Member] = []
        self._buffers: StepBuffers | None = None
        self._lengths: Ids = np.zeros((dims.num_layers, 0), np.int64)  # (layers, members)

    def member_of(self, prefix: Mapping[str, Tensor]) -> Member:
        """One that may join, with the prefix that a prefill left, as `StepSession.prefix` gives it."""
        keys = (prefix[sig.prefix_key(i)] for i in range(self._dims.num_layers))
        return Member(self._session, self._dims, [rows_of(key.shape) for key in keys])

    def join(self, member: Member, prefix: Mapping[str, Tensor]) -> None:
        """Take a member in, and its prefix."""
        if self._buffers is None:
            self._buffers = self._session.buffers(self._dims, prefix)
        else:
            self._buffers.fit([each.prefix_lengths for each in (*self._members, member)])
            self._buffers.put(len(self._members), prefix)
        self._place([*self._members, member])

    def resume(self, member: Member, tree: BeamTree, pool: Mapping[str, Array]) -> None:
        """Go on with the pool of a request that was decoded elsewhere, all of it in use."""
        assert self._buffers is not None, "it has joined"
        member.tree = tree
        self._buffers.fit_pool(tree.rows)
        self._buffers.put_pool(self._members.index(member), pool)

    def clear(self) -> None:
        """Give the memory back: every member has left."""
        self._place([])
        self._buffers = None

    def step(self, asked: Sequence[MemberRows]) -> list[TopTokens]:
        """Append rows to some members, and score what may follow them, in their order.

        Raises:
            EngineError: the graph fails; no member has new rows then.
            RequestCancelled: as `Session.run`.
        """
        assert self._buffers is not None, "who asks is a member"
        places = [self._members.index(rows.member) for rows in asked]
        for place, rows in zip(places, asked, strict=True):
            if (kept := rows.member.tree.compact_for(rows.parents)) is not None:
                self._buffers.keep(place, kept)
        branches = [rows.member.tree.branch(rows.parents) for rows in asked]
        self._buffers.fit_pool(max(mask.shape[1] for mask in branches))
        outputs = self._run(self._buffers, asked, places, branches)
        return self._taken(self._buffers, asked, places, branches, outputs)

    def _run(
        self,
        buffers: StepBuffers,
        asked: Sequence[MemberRows],
        places: Sequence[int],
        branches: Sequence[Mask],
    ) -> dict[str, Any]:
        """Members that ask for nothing have a row all the same; what comes of it is left."""
        members, beams = len(self._members), max(map(len, branches))
        tokens = np.zeros((members, beams), np.int64)
        mask = np.zeros((members, beams, buffers.pool_capacity), np.bool_)
        for place, rows, branch in zip(places, asked, branches, strict=True):
            count, pool = len(branch), rows.member.tree.rows
            tokens[place, :count] = rows.tokens
            mask[place, :count, :pool] = branch[:, :pool]
        inputs = {
            sig.TOKEN_IDS: tokens,
            sig.PREFIX_LENGTHS: self._lengths,
            sig.STEPS: np.array([member.tree.steps for member in self._members]),
            sig.POOL_MASK: mask,
            sig.NUM_CANDIDATES: np.array([max(rows.k for rows in asked)]),
            **self._fixed,
        }
        return self._session.run({**inputs, **buffers.tensors(members)})

    def _taken(
        self,
        buffers: StepBuffers,
        asked: Sequence[MemberRows],
        places: Sequence[int],
        branches: Sequence[Mask],
        outputs: Mapping[str, Any],
    ) -> list[TopTokens]:
        """Write new rows behind those in use, and cut the scores of each request out."""
        buffers.append(
            outputs,
            [
                NewRows(place, rows.member.tree.rows, len(branch))
                for place, rows, branch in zip(places, asked, branches, strict=True)
            ],
        )
        logits, ids, total = (
            self._session.read(outputs[name]) for name in (sig.TOP_LOGITS, sig.TOP_IDS, sig.LOG_SUM_EXP)
        )
        told = outputs.get(sig.WORD_ATTENTION)
        looks = None if told is None else self._session.read(told)
        found, beams = [], max(map(len, branches))
        for place, rows, branch in zip(places, asked, branches, strict=True):
            rows.member.tree.append(branch)
            own = slice(place * beams, place * beams + len(branch))
            seen = None
            if looks is not None:  # a copy: the search keeps it
                seen = looks[place, : len(branch), : max(rows.member.prefix_lengths)].copy()
            found.append(TopTokens(logits[own, : rows.k], ids[own, : rows.k], total[own], seen))
        return found

    def sweep(self) -> None:
        """Give the rows of members that left to others, the last ones first."""
        members = list(self._members)
        for row in range(len(members) - 1, -1, -1):
            if members[row].left:
                last = members.pop()
                if row < len(members):
                    assert self._buffers is not None, "there are members"
                    self._buffers.move(len(members), row)
                    members[row] = last
        if len(members) < len(self._members):
            self._place(members)

    def _place(self, members: list[Member]) -> None:
        self._members = members
        lengths = [member.prefix_lengths for member in members]
        self._lengths = np.array(lengths, np.int64).reshape(len(members), self._dims.num_layers).T.copy()
