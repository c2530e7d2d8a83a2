"""Sessions on ONNX Runtime's CUDA provider, whose tensors stay on the device."""

from .. import onnxruntime as onnxruntime  # before the library: with it, that reports nothing here either
