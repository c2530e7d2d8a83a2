"""The layer that a sparse profile merges at, by transfer entropy."""
