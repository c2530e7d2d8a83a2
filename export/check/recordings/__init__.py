"""Recordings of a reference that begin with samples of audio, beside those that begin with a prompt."""
