"""Identity of the merge ops. `span` is (start, length) of the audio rows, `removed` the rows to remove.

Where scores are ordered, ties go to the lower index, and NaN counts as the smallest score.
"""

MERGE_TOKENS = "MergeTokens"
"""(hidden, key, weight, span, removed) -> merged: merge along the most similar neighbouring keys."""

EDGE_SIMILARITY = "EdgeSimilarity"
"""(key, span) -> similarity: cosine of each pair of neighbouring keys in the span."""

MERGE_EDGES = "MergeEdges"
"""(hidden, score, weight, span, removed) -> merged: merge along the edges of the largest score."""

MERGE_PAIRS = "MergePairs"
"""(hidden, key, span, removed) -> merged: A-ToMe, disjoint pairs only. Output length depends on the data."""

RANDOM_SCORE = "RandomScore"
"""(count) -> score: reproducible pseudo-random scores in [0, 1), from the attribute `seed`."""

SMALLEST_WEIGHT, LARGEST_WEIGHT = 1e-30, 1e30
"""Weights are clamped to this range, which keeps the quotient finite:
rows that nothing attends to merge by their plain mean, and NaN counts as the smallest.
"""

SMALLEST_NORM = 2.0**-126
"""The least divisor of a key, the smallest normal float32: a zero key has similarity 0 to any key."""
