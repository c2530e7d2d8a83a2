"""The reduction as named ops: identity, NumPy reference, ONNX function body."""
