"""When two answers are the same."""

from __future__ import annotations

import numpy as np

from fastadasp.runtime import GenerationResult

SCORE_ATOL = 1e-4  # a product of several rows is rounded in another order than one of a single row


def assert_same(found: GenerationResult, wanted: GenerationResult, atol: float = SCORE_ATOL) -> None:
    """Tokens, caches and the end equal; scores within rounding."""
    assert [it.tokens for it in found.hypotheses] == [it.tokens for it in wanted.hypotheses]
    assert [it.finish_reason for it in found.hypotheses] == [it.finish_reason for it in wanted.hypotheses]
    assert (found.prefix_lengths, found.kv_bytes) == (wanted.prefix_lengths, wanted.kv_bytes)
    scores = [[it.score for it in result.hypotheses] for result in (found, wanted)]
    np.testing.assert_allclose(*scores, rtol=0, atol=atol)
