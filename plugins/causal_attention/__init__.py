"""Causal attention of the prefill, with the column sums that weigh the merge."""
