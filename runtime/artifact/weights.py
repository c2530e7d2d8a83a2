"""The weight files of an artifact, mapped into memory once for all sessions."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from ...profiles.errors import ArtifactError
from .artifact import Artifact
from .manifest import Graphs, WeightPlace

Array = npt.NDArray[Any]
PRECISION = "fp32"  # of what graphs compute in
TYPES = {"fp32": "<f4", "fp16": "<f2", "bf16": "<u2", "int8": "i1", "uint8": "u1"}
"""Precision of a stored tensor -> how it is viewed; NumPy has no bf16."""


def check_precision(artifact: Artifact, graphs: Graphs) -> None:
    """Refuse graphs whose weights cannot be mapped.

    Raises:
        ArtifactError: they are no float32.
    """
    if graphs.precision != PRECISION:
        raise ArtifactError(
            f"artifact {artifact.folder}: {graphs.encoder} is {graphs.precision}; "
            f"this version of fastadasp-export maps weights of {PRECISION} alone: build it for that"
        )


def map_weights(artifact: Artifact, places: Mapping[str, WeightPlace]) -> dict[str, Array]:
    """Views of the mapped files by initializer name; nothing is read before it is used. Those of bf16 are
    uint16, which no other weight is.

    Raises:
        ArtifactError: a place in a file that the manifest does not list, or outside its file; a file that has
            gone or changed since the artifact was opened.
    """
    names = {place.file for place in places.values()}
    files = {name: _mapped(artifact, name) for name in names}
    return {name: _view(files[place.file], place, name) for name, place in places.items()}


def _mapped(artifact: Artifact, name: str) -> Array:
    """The very file that was verified, so that replacing the artifact afterwards changes nothing."""
    with artifact.opened(name) as stream:
        return np.memmap(stream, np.uint8, "r")


def _view(file: Array, place: WeightPlace, name: str) -> Array:
    stored = np.dtype(TYPES[place.precision])
    end = place.offset + prod(place.shape) * stored.itemsize
    if not 0 <= place.offset <= end <= file.size:
        raise ArtifactError(f"{place.file}: weight {name} lies outside the file; build the artifact again")
    return file[place.offset : end].view(stored).reshape(place.shape)
