"""Checkpoint in, artifact out: graphs, weights, parity."""
