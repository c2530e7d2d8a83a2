"""The encoders of whole clips, read by the names of transformers, one module for each."""
