"""Sessions on OpenVINO for encoders and prefills; decode steps stay with ONNX Runtime."""
