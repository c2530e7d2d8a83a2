"""Sessions on TensorRT: plans of an artifact on an NVIDIA GPU."""
