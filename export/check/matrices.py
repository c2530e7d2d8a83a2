"""The quantised matrices of an artifact against the checkpoint that it was built from, block by block."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...runtime.artifact.artifact import Artifact
from ..checkpoint.checkpoint import Checkpoint
from ..checkpoint.derived import Weight
from ..checkpoint.int4 import MOST_MOVED, in_blocks, ranged
from ..checkpoint.precision import FP32
from ..checkpoint.quantized import (
    SIGNED_INT4,
    Int8Blocks,
    QuantizedRows,
    QuantizedWeight,
    int8_rows,
    int8_steps,
    signed_steps,
)
from ..model.families.family import load_model
from ..model.quantize import Quantizers, as_stored, beside_engines, quantized_matrices
from ..reference.dequantized import dequantized
from ..targets import TARGETS

Floats = npt.NDArray[Any]
Stored = Mapping[str, Any]  # a torch.Tensor by the name of the part

ROUNDING = 0.5
"""Root mean square error of a block, in steps, that rounding explains: no number is more than half a step
away.
"""
SLACK = 1.01
"""Of numbers in float32."""
SCALES_IN_16_BITS = 0.02
"""Steps that scales of signed int4 in bf16 add: 8 steps times half of 2^-8."""
INT8_SCALES_IN_16_BITS = 0.25
"""The same of int8 in blocks: 127 steps times half of 2^-8."""


@dataclass(frozen=True)
class MatrixFinding:
    """One matrix, at the block that is farthest from the checkpoint; in int8 an output is one block."""

    name: str
    form: str  # int8 or int4
    output: int
    error: float  # root mean square of the difference there, in steps that span the numbers of the checkpoint
    bound: float  # of the error

    @property
    def passed(self) -> bool:
        """Whether what the build did explains it."""
        return self.error <= self.bound


def check_matrices(artifact: Artifact, checkpoint: Path) -> list[MatrixFinding]:
    """Every quantised matrix, if there are any.

    Raises:
        CheckpointError: it is no checkpoint, or one without such a matrix.
    """
    from safetensors.torch import load_file

    graphs = next(iter(artifact.manifest.graphs.values()))
    if graphs.quantized is None:
        return []
    weights = artifact.weights(graphs)
    files = sorted({place.file for place in (*weights.encoder.values(), *weights.decoder.values())})
    stored = {name: tensor for file in files for name, tensor in load_file(artifact.path(file)).items()}
    quantizers = quantizers_of(artifact, stored)
    pairs = quantized_matrices(load_model(Checkpoint(checkpoint)), graphs.quantized, quantizers)
    return compare_matrices(pairs, stored)


def quantizers_of(artifact: Artifact, tensors: Iterable[str]) -> Quantizers:
    """What its matrices were quantised by, told by its engines, its target and the names of its tensors."""
    if artifact.manifest.engine_precision is not None:
        return beside_engines(artifact.manifest.engine_precision)
    target, graphs = next(iter(artifact.manifest.graphs.items()))
    return TARGETS[target].quantizers(graphs.precision, *as_stored(tensors))


def compare_matrices(pairs: Iterable[tuple[Weight, QuantizedWeight]], stored: Stored) -> list[MatrixFinding]:
    """Matrices as they were, and what their stored parts stand for."""
    found = dequantized(stored)
    return [_finding(before, after, found[before.name].numpy(), stored) for before, after in pairs]


def _finding(before: Weight, after: QuantizedWeight, found: Floats, stored: Stored) -> MatrixFinding:
    expected = before.read()
    difference = found[:, : expected.shape[1]] - expected
    block = expected.shape[1] if isinstance(after, QuantizedRows) else after.block
    expected, difference = in_blocks(expected, block), in_blocks(difference, block)
    errors = np.sqrt(np.square(difference / _steps(after, expected)[..., None]).mean(-1)).max(1)
    worst = int(np.argmax(errors))  # the first NaN, if there is one
    return MatrixFinding(before.name, after.form, worst, float(errors[worst]), SLACK * _bound(after, stored))


def _steps(after: QuantizedWeight, blocks: Floats) -> Floats:
    """The step by which the form of a matrix reaches all numbers of each block (out, blocks, block)."""
    if isinstance(after, QuantizedRows):
        return int8_rows(blocks[:, 0])[1][:, None]
    if isinstance(after, Int8Blocks):
        return int8_steps(blocks)
    if after.form == SIGNED_INT4:
        return np.maximum(signed_steps(blocks), np.finfo(np.float32).tiny)
    return ranged(blocks).scales


def _bound(after: QuantizedWeight, stored: Stored) -> float:
    """That of rounding, or how far calibration moved the matrix, as far as it may."""
    if after.form == SIGNED_INT4:
        return ROUNDING + SCALES_IN_16_BITS
    if isinstance(after, Int8Blocks) and stored[after.scales.name].element_size() < FP32.item_bytes:
        return ROUNDING + INT8_SCALES_IN_16_BITS
    moved = getattr(after, "moved", None)
    found = None if moved is None else stored.get(moved.name)
    return ROUNDING if found is None else max(ROUNDING, min(float(found[0]), MOST_MOVED))
