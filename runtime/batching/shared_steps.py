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
from .batch import Batch, Member, Rows
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


class _Asked:
    """The step that one thread waits for."""

    def __init__(self, rows: Rows) -> None:
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
        self._waiting: list[_Asked] = []
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
        asked = _Asked(Rows(member, tokens, parents, k))
        try:
            self._ask(asked)
            if asked.leads or self._is_to_lead(asked):
                self._lead()
        except BaseException:  # also Ctrl-C in this thread: the others would wait for it for ever
            self._withdraw(asked)
            raise
        assert asked.found is not None, "a leader answers all"
        if isinstance(asked.found, FastAdaSPError):
            raise asked.found
        return asked.found

    def _ask(self, asked: _Asked) -> None:
        """Put it to those that wait; it leads where nobody else does."""
        with self._lock:
            self._away.discard(asked.rows.member)
            self._waiting.append(asked)
            asked.leads = not self._has_leader
            self._has_leader = True
            self._tell_leader()

    def _is_to_lead(self, asked: _Asked) -> bool:
        """Wait until it is answered, or its turn to lead."""
        wait_for(asked.woken)
        return asked.leads

    def _lead(self) -> None:
        """Run a step for all that wait. RequestCancelled: before it began."""
        self._gather()
        with self._turns.take("step"):
            asked: list[_Asked] = []
            try:
                with self._lock:
                    asked, self._waiting = self._waiting, []
                    with _memory_told():
                        self._batch.sweep()  # here: who leaves from now on has a row until the step ends
                self._run(asked)
            finally:
                self._answer(asked)

    def _answer(self, asked: list[_Asked]) -> None:
        """Wake who waits, and let somebody else lead."""
        for each in asked:
            each.found = each.found or EngineError("a step that the request shared with others has failed")
            each.woken.ring()
        self._pass_on()

    def _run(self, asked: list[_Asked]) -> None:
        """A step of one request may be stopped with it; one of several ends for all."""
        rows = [each.rows for each in asked]
        try:
            with _memory_told(), nullcontext() if len(asked) == 1 else unguarded():
                found = self._batch.step(rows)
        except FastAdaSPError as error:
            for each in asked:
                each.found = error
        else:
            for each, top in zip(asked, found, strict=True):
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

    def _withdraw(self, asked: _Asked) -> None:
        with self._lock:
            if asked in self._waiting:
                self._waiting.remove(asked)
                if asked.leads:
                    self._pass_on()
