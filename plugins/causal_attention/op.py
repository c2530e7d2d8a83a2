"""Identity of the causal attention ops.

Scores are scaled by head_dim ** -0.5 in each of them; a model with another scale multiplies its queries.
"""

ATTENTION = "CausalAttention"
"""(query, key, value) -> output: causal softmax attention, grouped queries."""

ATTENTION_MASS = "CausalAttentionMass"
"""(query, key, value) -> (output, mass): also the column sums of the probabilities."""

ATTENTION_HEAD_MASS = "CausalAttentionHeadMass"
"""(query, key, value) -> (output, mass): the column sums of each key/value head, over its group of heads."""

COLUMN_MASS = "AttentionMass"
"""(query, key) -> mass: the column sums alone."""

LAST_QUERY_MASS = "LastQueryMass"
"""(query, key) -> mass: the probabilities of the last query row alone, summed over the heads."""

UNROLLED_ROWS = 512  # queries of a chunk in the longest prompt
FEWEST_UNROLLED, MOST_UNROLLED = 4, 16  # fewer compute more that is hidden; each adds nodes to every layer


def unrolled_chunks(longest: int) -> int:
    """Into how many chunks queries are cut where a graph repeats nodes, for prompts of up to so many rows.

    The number is fixed: a shorter prompt has shorter chunks.
    """
    return min(MOST_UNROLLED, max(FEWEST_UNROLLED, -(-longest // UNROLLED_ROWS)))


def summed_ends(longest: int) -> list[int]:
    """Where chunks of queries end if their columns are summed, for prompts of up to so many rows.

    These ends are the same for every prompt: those that lie behind its last row are that row. A chunk is a
    quarter as long as what is before it, or `UNROLLED_ROWS`: few in a long prompt, too, and no large ones.
    """
    ends = [UNROLLED_ROWS]
    while ends[-1] < longest:
        ends.append(ends[-1] + max(UNROLLED_ROWS, ends[-1] // 4))
    return [*ends[:-1], longest]


QUERY_CHUNK = 64
"""Query rows that the function body handles at once: the score matrix is never larger than chunk x rows."""
