"""What can be wrong with a manifest whose fields have their types: ranges, and what one part says of another.

A manifest that was damaged does not match its digest. What is looked for here was written by another program,
or by hand: none of it may fail later, far from its cause, or name a file outside of the artifact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ...profiles.faults import at
from .manifest import Manifest
from .part_faults.engines import engines_faults
from .part_faults.fields import text_fault
from .part_faults.figures import figures_faults
from .part_faults.files import file_faults, graphs_faults, names_faults, overlap_faults, weights_faults
from .part_faults.model import (
    adapter_faults,
    decoder_faults,
    generation_faults,
    profile_faults,
    prompt_faults,
    tower_faults,
)


def manifest_faults(manifest: Manifest) -> Iterator[str]:
    """Every fault, with its place in the JSON."""
    yield from decoder_faults(manifest)
    if manifest.prompt:
        yield from prompt_faults(manifest.prompt, manifest.decoder)
    yield from tower_faults(manifest)
    yield from generation_faults(manifest.generation, manifest.decoder.dims.vocab_size)
    for part in ("family", "profiles", "graphs"):
        if not getattr(manifest, part):
            yield f"{part} is empty"
    for place, text in {"family": manifest.family, **_named("versions", manifest.versions)}.items():
        yield from text_fault(place, text)
    for name, resolved in manifest.profiles.items():
        yield from profile_faults(at("profiles", name), name, resolved, manifest.decoder.dims.num_layers)
    for target, graphs in manifest.graphs.items():
        yield from graphs_faults(at("graphs", target), graphs, manifest)
    for name, weights in manifest.weights.items():
        yield from weights_faults(at("weights", name), name, weights, manifest)
    yield from overlap_faults(manifest)
    yield from names_faults(manifest.files)
    for name, record in manifest.files.items():
        yield from file_faults(at("files", name), record)
    for i, adapter in enumerate(manifest.adapters):
        yield from adapter_faults(f"adapters[{i}]", adapter)
    if manifest.engines:
        yield from engines_faults(manifest.engines, manifest)
    if manifest.figures:
        yield from figures_faults(manifest.figures, manifest)


def _named(place: str, texts: Mapping[str, str]) -> dict[str, str]:
    return {at(place, name): text for name, text in texts.items()}
