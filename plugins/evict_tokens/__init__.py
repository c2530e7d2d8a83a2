"""Eviction of audio tokens."""
