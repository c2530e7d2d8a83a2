"""Checkpoints as their training left them, written once as a folder that a build reads."""
