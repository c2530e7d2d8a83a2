"""The tree of the beams of one request: which rows of its pool are whose ancestors.

A generated row is stored once, where it was appended; each live beam knows which rows of the pool are its
ancestors. So picking other beams costs a mask, not a reordering of keys and values.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

COMPACT_EVERY = 16  # steps between looks for dead rows
LIVE_SHARE = 0.75  # compact when fewer rows of the pool than this are anybody's ancestor

Mask = npt.NDArray[np.bool_]
Ids = npt.NDArray[np.int64]


class BeamTree:
    """The rows of a pool, and who descends from them."""

    def __init__(self) -> None:
        self._ancestors: Mask = np.zeros((1, 0), np.bool_)  # (rows of the last step, pool)
        self.largest = 0  # rows that the pool ever had
        self.steps = 0  # rows that each beam has generated

    @classmethod
    def resumed(cls, ancestors: Mask, steps: int) -> BeamTree:
        """A tree of which these are the ancestors of the beams, (rows, pool), after so many steps."""
        tree = cls()
        tree._ancestors, tree.largest, tree.steps = ancestors, ancestors.shape[1], steps
        return tree

    @property
    def rows(self) -> int:
        """Of the pool, now."""
        return int(self._ancestors.shape[1])

    def branch(self, parents: Ids) -> Mask:
        """The mask of a step whose row i continues row `parents[i]`: (rows, pool + rows)."""
        own = np.eye(len(parents), dtype=np.bool_)
        return np.concatenate([self._ancestors[parents], own], axis=1)

    def append(self, mask: Mask) -> None:
        """Take the rows of a step that ran with this mask."""
        self._ancestors = mask
        self.largest = max(self.largest, mask.shape[1])
        self.steps += 1

    def compact_for(self, parents: Ids) -> Ids | None:
        """Now and then, forget the rows that no row of `parents` descends from, if there are many.

        Returns:
            The rows that stay, in their order; None if all do.
        """
        if not self.steps or self.steps % COMPACT_EVERY:
            return None
        live = self._ancestors[parents].any(axis=0)
        if live.sum() >= LIVE_SHARE * live.size:
            return None
        self._ancestors = self._ancestors[:, live]
        return np.flatnonzero(live)
