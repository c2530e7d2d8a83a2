"""Identity of the product of a decode step."""

STEP_PRODUCT = "StepProduct"
"""(x, weight, many) -> output: x weight^T; `many` says that there are `MANY_ROWS` or more."""

MANY_ROWS = 6
"""From so many rows on, W x^T over weights as they are stored is faster than x W^T over packed ones.

The kernels of ONNX Runtime take up to 6 or 12 rows at a time of what is on the left, and read all packed
weights for each time; the other way round they read the weights once. One row is faster over packed ones.
"""
