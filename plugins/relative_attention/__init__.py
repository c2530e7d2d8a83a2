"""Attention with a bias that depends on distance, gated by each query: NumPy reference and ONNX nodes."""
