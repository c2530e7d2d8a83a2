"""Faults of the files that a manifest lists, and of the graphs and tensors that are in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from math import prod
from pathlib import PurePosixPath

from ....profiles.faults import at, count_fault, shown
from ..manifest import FILE_NAME, PREFIX_TYPES, FileRecord, Graphs, Manifest, WeightPlace, Weights
from .fields import (
    ITEM_BYTES,
    LARGEST,
    LARGEST_FILE,
    MOST_AXES,
    QUANTIZED,
    hash_fault,
    keys_fault,
    known_fault,
    listed_fault,
)

STORED_BYTES = {**ITEM_BYTES, "int8": 1, "uint8": 1}
"""Precision of stored tensors -> bytes of one number."""

HEADER_BYTES = 8  # of a weight file, at least
ORIGINS = ("linked", "copied", "converted")
LONGEST_NAME, LONGEST_PATH = 255, 1000  # of a file: bytes that every system takes


def graphs_faults(place: str, graphs: Graphs, manifest: Manifest) -> Iterator[str]:
    """Those of the graphs for one target: known formats, and files for what the model has."""
    yield from known_fault(f"{place}.precision", graphs.precision, ITEM_BYTES)
    if graphs.quantized is not None:
        yield from known_fault(f"{place}.quantized", graphs.quantized, QUANTIZED)
    if graphs.kv_precision is not None:
        yield from known_fault(f"{place}.kv_precision", graphs.kv_precision, PREFIX_TYPES)
    if graphs.weights not in manifest.weights:
        yield f"{place}.weights is {shown(graphs.weights)}, and there is no such table of weights"
    yield from listed_fault(f"{place}.encoder", graphs.encoder, manifest)
    yield from listed_fault(f"{place}.decode", graphs.decode, manifest)
    optional = {
        "wave_encoder": bool(manifest.front_end.wave),
        "prompt_adapter": manifest.decoder.has_prompt_adapter,
    }
    for name, is_asked_for in optional.items():
        yield from _optional_faults(f"{place}.{name}", getattr(graphs, name), is_asked_for, manifest)
    for profile, file in graphs.prefill.items():
        yield from listed_fault(at(f"{place}.prefill", profile), file, manifest)
    yield from keys_fault(f"{place}.prefill", graphs.prefill, manifest.profiles)


def _optional_faults(place: str, file: str | None, is_asked_for: bool, manifest: Manifest) -> Iterator[str]:
    """The file of a graph that is there where some record asks for it, and nowhere else."""
    if (file is not None) != is_asked_for:
        yield f"{place} is {shown(file)}, which does not fit the rest of the manifest"
    if file is not None:
        yield from listed_fault(place, file, manifest)


def weights_faults(place: str, name: str, weights: Weights, manifest: Manifest) -> Iterator[str]:
    """Those of one table of weights: each tensor lies in a listed file."""
    yield from known_fault(f"{place}.origin", weights.origin, ORIGINS)
    for part, table in (("encoder", weights.encoder), ("decoder", weights.decoder)):
        for tensor, tensor_place in table.items():
            yield from _tensor_faults(at(f"{place}.{part}", tensor), tensor_place, manifest)


def _tensor_faults(place: str, tensor: WeightPlace, manifest: Manifest) -> Iterator[str]:
    yield from listed_fault(f"{place}.file", tensor.file, manifest)
    yield from known_fault(f"{place}.precision", tensor.precision, STORED_BYTES)
    if len(tensor.shape) > MOST_AXES or not all(1 <= size <= LARGEST for size in tensor.shape):
        yield f"{place}.shape is {shown(list(tensor.shape))}: it is no shape of a tensor"
    elif tensor.file in manifest.files:
        end, size = tensor.offset + _num_bytes(tensor), manifest.files[tensor.file].size
        if not HEADER_BYTES <= tensor.offset <= end <= size:
            yield f"{place} is bytes {shown(tensor.offset)} to {shown(end)} of a file of {size}"


def _num_bytes(tensor: WeightPlace) -> int:
    """In its file; the least that it could be where its precision is unknown."""
    return prod(tensor.shape) * STORED_BYTES.get(tensor.precision, 1)


def overlap_faults(manifest: Manifest) -> Iterator[str]:
    """Tensors that share a part of their bytes; all of them may be shared, as those of a tied head are."""
    found = {
        (place.file, place.offset, place.offset + _num_bytes(place)): tensor
        for weights in manifest.weights.values()
        for table in (weights.encoder, weights.decoder)
        for tensor, place in table.items()
    }
    for ((file, _, end), one), ((next_file, start, _), other) in pairwise(sorted(found.items())):
        if file == next_file and start < end:
            yield f"weights: {shown(one)} and {shown(other)} overlap in {shown(file)}"


def names_faults(files: Mapping[str, FileRecord]) -> Iterator[str]:
    """Names that leave the folder, or that not every file system has."""
    folded: dict[str, str] = {}
    for name in files:
        if not _is_inside(name):
            yield f"files: {shown(name)} lies outside the artifact, or is no name that every system has"
        elif (other := folded.setdefault(name.casefold(), name)) != name:
            yield f"files: {shown(other)} and {shown(name)} are one file where case does not count"


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    is_plain = name.isprintable() and "\\" not in name and str(path) == name
    is_plain &= all(len(part.encode()) <= LONGEST_NAME for part in path.parts) and len(name) <= LONGEST_PATH
    return is_plain and not path.is_absolute() and not {"..", "."} & {*path.parts, name} and name != FILE_NAME


def file_faults(place: str, record: FileRecord) -> Iterator[str]:
    """Those of what is recorded of one file."""
    yield from count_fault(f"{place}.size", record.size, 0, LARGEST_FILE)
    yield from hash_fault(f"{place}.blake3", record.blake3)
