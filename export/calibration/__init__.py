"""Clips as a model hears them, and what they multiply its matrices with: by that int4 is chosen."""
