"""Eviction from a KV cache: every head keeps its own rows."""
