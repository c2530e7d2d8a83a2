"""An artifact as a model of NVIDIA's Triton Inference Server: a folder that the server reads."""
