"""The weight files of an artifact, mapped into memory once for all sessions."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Mapping
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


class MappedWeights(dict[str, Array]):
    """Views of mapped files by initializer name; those of bf16 are uint16, which no other weight is."""

    def __init__(self, views: Mapping[str, Array], maps: Iterable[mmap.mmap]) -> None:
        """Of views and the maps that they look at."""
        super().__init__(views)
        self._maps = tuple(maps)

    def forget(self) -> None:
        """Give the memory of all that was read back to the system: what is used again is read again."""
        for each in self._maps:
            if hasattr(each, "madvise"):  # Windows has none, and takes pages back by itself
                each.madvise(mmap.MADV_DONTNEED)


def map_weights(artifact: Artifact, places: Mapping[str, WeightPlace]) -> MappedWeights:
    """Map the files; nothing is read before it is used.

    Raises:
        ArtifactError: a place in a file that the manifest does not list, or outside its file; a file that has
            gone or changed since the artifact was opened.
    """
    maps = {name: _mapped(artifact, name) for name in {place.file for place in places.values()}}
    files = {name: np.frombuffer(content, np.uint8) for name, content in maps.items()}
    views = {name: _view(files[place.file], place, name) for name, place in places.items()}
    return MappedWeights(views, maps.values())


def _mapped(artifact: Artifact, name: str) -> mmap.mmap:
    """The very file that was verified, so that replacing the artifact afterwards changes nothing."""
    with artifact.opened(name) as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)


def _view(file: Array, place: WeightPlace, name: str) -> Array:
    stored = np.dtype(TYPES[place.precision])
    end = place.offset + prod(place.shape) * stored.itemsize
    if not 0 <= place.offset <= end <= file.size:
        raise ArtifactError(f"{place.file}: weight {name} lies outside the file; build the artifact again")
    return file[place.offset : end].view(stored).reshape(place.shape)
