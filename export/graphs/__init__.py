"""ONNX graphs, built node by node from a model by role."""
