"""The decode loop: a search, the decoder that it drives, and the KV cache."""
