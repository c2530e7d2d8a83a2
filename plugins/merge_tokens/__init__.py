"""Merging of neighbouring audio tokens."""
