"""Tokenizers that are made of a file of ranks, for folders without tokenizer.json."""
