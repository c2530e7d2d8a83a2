"""Sessions on ONNX Runtime, which reports nothing to its makers unless it is asked to."""

import os

# Read when onnxruntime is imported, which only this package does. Without it, onnxruntime 1.32 sends events
# and keeps a device id below ~/.cache/Microsoft.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
