"""The latency matrix of an artifact."""
