"""Identity of the MLP op."""

GATED_MLP = "GatedMLP"
"""(x, gate, up, down) -> output: down(silu(gate(x)) * up(x)); weights are (out, in)."""

ROW_CHUNK = 256
"""Rows that the function body handles at once: the wide hidden layer is never larger than this."""

STEP_MLP = "StepMLP"
"""(x, gate, up, down, many) -> output: the same in a step; `many`: of `MANY_ROWS` rows or more."""

STEP_PRODUCT = "StepProduct"
"""(x, weight, many) -> output: x weight^T, likewise."""

MANY_ROWS = 6
"""From so many rows on, W x^T over weights as they are stored is faster than x W^T over packed ones.

The kernels of ONNX Runtime take up to 6 or 12 rows at a time of what is on the left, and read all packed
weights for each time; the other way round they read the weights once. One row is faster over packed ones.
"""
