"""How a second model is made: a pretrained language model learns to read the rows of a speech encoder."""
