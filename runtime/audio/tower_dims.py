"""The sizes of the encoders of an audio tower, on which the memory of a request depends."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EncoderDims:
    """An encoder of transformer layers."""

    hidden_size: int
    num_heads: int
    intermediate_size: int
    attention_rows: int | None = None  # that attend to one another; None: all
    image_channels: int = 0  # of the convolutions over mel bins and time, where it begins with such
    numbers_per_row: int | None = None
    """That are in memory at once, where memory grows with the rows alone; None: rows attend to all rows."""

    fixed_numbers: int = 0  # beside these, of any length


@dataclass(frozen=True)
class TowerDims:
    """The encoder of windows, and that of whole waves where the tower has one."""

    window: EncoderDims
    wave: EncoderDims | None = None
    wave_channels: int = 0  # of the convolutions over the samples of a wave
