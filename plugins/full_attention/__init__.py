"""Bidirectional attention of the audio encoder."""
