"""Identity of the encoder attention op."""

FULL_ATTENTION = "FullAttention"
"""(query, key, value) -> output: every row attends to every row."""
