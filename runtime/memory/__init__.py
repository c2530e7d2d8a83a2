"""The memory of one request: an upper bound before it starts, and the limit that it is held to."""
