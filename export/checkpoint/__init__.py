"""A checkpoint as bytes: tensors by offset, number formats, tokenizer, where weights lie."""
