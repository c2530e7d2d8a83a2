"""The graphs of encoders that hear a whole clip at once, one module for each kind."""
