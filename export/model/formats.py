"""The weight formats by name; quick to import, so that a command line has them."""

QUANTIZED = ("int8", "int4")
INT4_BLOCKS = (32, 64, 128)
"""Inputs that share a scale, the default first: larger blocks are smaller and faster, and less exact."""
