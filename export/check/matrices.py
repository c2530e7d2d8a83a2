"""The quantised matrices of an artifact against the checkpoint that it was built from, output by output."""

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
from ..checkpoint.quantized import SIGNED_INT4, QuantizedWeight
from ..model.families.family import load_model
from ..model.quantize import quantized_matrices, quantizers_beside
from ..reference.dequantized import dequantized

LARGEST_ERROR: Mapping[str, float] = {"int8": 0.15, "int4": 0.25, SIGNED_INT4: 0.4}
"""Form -> error of an output, relative to its weights, that rounding explains. Rounding int8 costs normal
numbers 1 %, int4 in blocks of 32 costs them 8 % and signed int4 in blocks of 64 costs them 10 %; outputs with
outliers cost up to ten times as much, or three times in int4.
"""
Stored = Mapping[str, Any]  # a torch.Tensor by the name of the matrix, or of the part


@dataclass(frozen=True)
class MatrixFinding:
    """One matrix, at the output that is farthest from the checkpoint."""

    name: str
    form: str  # key of `LARGEST_ERROR`
    output: int
    error: float  # root mean square of the difference there, relative to that of the weights

    @property
    def passed(self) -> bool:
        """Whether rounding explains it."""
        return self.error <= LARGEST_ERROR[self.form]


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
    quantizers = quantizers_beside(artifact.manifest.engine_precision)
    pairs = quantized_matrices(load_model(Checkpoint(checkpoint)), graphs.quantized, quantizers)
    return compare_matrices(pairs, stored)


def compare_matrices(pairs: Iterable[tuple[Weight, QuantizedWeight]], stored: Stored) -> list[MatrixFinding]:
    """Matrices as they were, and what their stored parts stand for."""
    found = dequantized(stored)
    return [
        _finding(before.name, after.form, before.read(), found[before.name].numpy())
        for before, after in pairs
    ]


def _finding(name: str, form: str, expected: npt.NDArray[Any], found: npt.NDArray[Any]) -> MatrixFinding:
    difference = found[:, : expected.shape[1]] - expected
    sizes = np.sqrt(np.square(expected).mean(1)) + np.finfo(np.float32).tiny
    errors = np.sqrt(np.square(difference).mean(1)) / sizes
    worst = int(np.argmax(errors))  # the first NaN, if there is one
    return MatrixFinding(name, form, worst, float(errors[worst]))
