"""Attention of one decode step over a shared prefix and a pool of generated rows."""
