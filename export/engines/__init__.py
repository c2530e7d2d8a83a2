"""TensorRT engines: shapes, network checks, and a process for each build."""
