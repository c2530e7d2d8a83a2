"""The SwiGLU MLP over many rows."""
