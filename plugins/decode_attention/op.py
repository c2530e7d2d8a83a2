"""Identity of the decode attention ops.

Scores are scaled by head_dim ** -0.5 in both of them; a model with another scale multiplies its queries.
"""

DECODE_ATTENTION = "DecodeAttention"
"""(query, prefix_key, prefix_value, pool_key, pool_value, pool_bias) -> output.

Every beam is a query row: all see the whole prefix, and of the pool what the additive bias leaves them.
"""

LAST_ROW_ATTENTION = "LastRowAttention"
"""(query, key, value) -> output: one query row that sees every key."""
