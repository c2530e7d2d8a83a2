"""Identity of the cache eviction op. `span` is (start, length) of the audio rows."""

EVICT_CACHE = "EvictCache"
"""(key, value, score, span, removed) -> (kept_key, kept_value): each KV head drops the `removed` rows of the
span with the smallest score of its own."""
