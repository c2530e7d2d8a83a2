"""Identity of the decode attention ops.

Scores are scaled by head_dim ** -0.5 in both of them; a model with another scale multiplies its queries.
"""

DECODE_ATTENTION = "DecodeAttention"
"""(query, prefix_key, prefix_value, prefix_bias, pool_key, pool_value, pool_bias, own_key, own_value,
own_bias) -> output.

One step of several requests, each with as many beams; every beam is a query row. Of its request's prefix,
of its pool, and of the rows that this very step makes it sees what additive biases leave it. Prefix and pool
have a fixed capacity, and what is in unused rows has no influence if it is finite.
"""

LAST_ROW_ATTENTION = "LastRowAttention"
"""(query, key, value) -> output: one query row that sees every key."""
