"""How the threads of requests share the steps of a batch: one of them runs a step for all that wait.

There is no thread of its own. Who asks for a step while nobody leads waits a moment until the others have
asked, too, and runs the step of all of them; so a request that is alone runs its steps itself, at once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from ...profiles.errors import EngineError, FastAdaSPError
from ..cancellation.bell import Bell
from ..cancellation.guard import unguarded, wait_for
from ..decoding.search import TopTokens
from .batch import Batch, Member, MemberRows
from .turns import Turns

Array = npt.NDArray[Any]
Ids = npt.NDArray[np.int64]

GATHER = 0.02  # seconds that a step waits for members that are about to ask: each does so after milliseconds


@contextmanager
def _memory_told() -> Iterator[None]:
    """Tell want of memory of the host as sessions tell that of a device."""
    try:
        yield
    except MemoryError as error:
        raise EngineError(
            "there is no memory for requests that share steps: run fewer at once (max_batch), or ask for "
            "shorter audio, fewer beams or tokens"
        ) from error


class _Waiting:
    """The step that one thread waits for."""

    def __init__(self, rows: MemberRows) -> None:
        self.rows, self.leads = rows, False
        self.woken = Bell()
        self.found: TopTokens | FastAdaSPError | None = None


class SharedSteps:
    """The steps of one batch."""

    def __init__(self, batch: Batch, turns: Turns) -> None:
        self._batch, self._turns = batch, turns
        self._lock = threading.RLock()
        self._present: set[Member] = set()
        self._away: set[Member] = set()  # did not ask in time the last time: nobody waits for them
        self._waiting: list[_Waiting] = []
        self._has_leader = False
        self._gathered: Bell | None = None  # of a leader that waits for others to ask

    def __len__(self) -> int:
        """Members that have not left."""
        return len(self._present)

    def join(self, prefix: Mapping[str, Array]) -> Member:
        """A new member with this prefix. Only in a turn: then no step runs. EngineError: no memory."""
        with self._lock:
            member = self._batch.member_of(prefix)
            self._present.add(member)  # before it joins: a batch with nobody in it is cleared
            try:
                with _memory_told():
                    self._batch.sweep()
                    self._batch.join(member, prefix)
            except BaseException:  # or the others would wait for one who never asks
                self.leave(member)
                raise
        return member

    def leave(self, member: Member) -> None:
        """Let a member go, at any time; its row is given away before the next step. Again: nothing."""
        with self._lock:
            member.left = True
            self._present.discard(member)
            self._away.discard(member)
            if not self._present:
                self._batch.clear()
            self._tell_leader()

    def step(self, member: Member, tokens: Ids, parents: Ids, k: int) -> TopTokens:
        """The scores of a member's new rows.

        Raises:
            EngineError: the graph fails.
            RequestCancelled: the request for which this thread runs a stage ended. Others of the step go on.
        """
        waiting = _Waiting(MemberRows(member, tokens, parents, k))
        try:
            self._ask(waiting)
            if waiting.leads or self._is_to_lead(waiting):
                self._lead()
        except BaseException:  # also Ctrl-C in this thread: the others would wait for it for ever
            self._withdraw(waiting)
            raise
        assert waiting.found is not None, "a leader answers all"
        if isinstance(waiting.found, FastAdaSPError):
            raise waiting.found
        return waiting.found

    def _ask(self, waiting: _Waiting) -> None:
        """Put it to those that wait; it leads where nobody else does."""
        with self._lock:
            self._away.discard(waiting.rows.member)
            self._waiting.append(waiting)
            waiting.leads = not self._has_leader
            self._has_leader = True
            self._tell_leader()

    def _is_to_lead(self, waiting: _Waiting) -> bool:
        """Wait until it is answered, or its turn to lead."""
        wait_for(waiting.woken)
        return waiting.leads

    def _lead(self) -> None:
        """Run a step for all that wait. RequestCancelled: before it began."""
        self._gather()
        with self._turns.take("step"):
            waiting: list[_Waiting] = []
            try:
                with self._lock:
                    waiting, self._waiting = self._waiting, []
                    with _memory_told():
                        self._batch.sweep()  # here: who leaves from now on has a row until the step ends
                self._run(waiting)
            finally:
                self._answer(waiting)

    def _answer(self, waiting: list[_Waiting]) -> None:
        """Wake who waits, and let somebody else lead."""
        for each in waiting:
            each.found = each.found or EngineError("a step that the request shared with others has failed")
            each.woken.ring()
        self._pass_on()

    def _run(self, waiting: list[_Waiting]) -> None:
        """A step of one request may be stopped with it; one of several ends for all."""
        rows = [each.rows for each in waiting]
        try:
            with _memory_told(), nullcontext() if len(waiting) == 1 else unguarded():
                found = self._batch.step(rows)
        except FastAdaSPError as error:
            for each in waiting:
                each.found = error
        else:
            for each, top in zip(waiting, found, strict=True):
                each.found = top

    def _gather(self) -> None:
        """Wait until all members that are about to ask have done so."""
        with self._lock:
            if self._is_complete():
                return
            gathered = self._gathered = Bell()
        in_time = gathered.wait(GATHER)
        with self._lock:
            self._gathered = None
            if not in_time:
                self._away |= self._present - {each.rows.member for each in self._waiting}

    def _is_complete(self) -> bool:
        return len(self._waiting) >= len(self._present) - len(self._away)

    def _tell_leader(self) -> None:
        if self._gathered and self._is_complete():
            self._gathered.ring()

    def _pass_on(self) -> None:
        """Make whoever waits longest the leader."""
        with self._lock:
            self._has_leader = bool(self._waiting)
            if self._waiting:
                self._waiting[0].leads = True
                self._waiting[0].woken.ring()

    def _withdraw(self, waiting: _Waiting) -> None:
        with self._lock:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
                if waiting.leads:
                    self._pass_on()
