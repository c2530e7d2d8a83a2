"""Attention of one decode step: to prefixes, generated rows, and the rows of the step itself."""
