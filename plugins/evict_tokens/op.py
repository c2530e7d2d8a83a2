"""Identity of the eviction op. `span` is (start, length) of the audio rows."""

EVICT_TOKENS = "EvictTokens"
"""(hidden, score, span, removed) -> kept: drop the `removed` rows of the span with the smallest score."""
