"""The graphs of an artifact for each of its targets; what is the same for two of them stands there once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ...profiles.flops import ResolvedProfile
from ...runtime.artifact.manifest import PREFIX_TYPES, Graphs
from ..checkpoint.weights import WeightStore
from ..model.spec import SpeechModelSpec
from .lowering.lowering import Lowering
from .write import (
    DECODE_FILE,
    ENCODER_FILE,
    PROMPT_ADAPTER_FILE,
    WAVE_ENCODER_FILE,
    build_graphs,
    prefill_file,
)


def write_graph_sets(
    folder: Path,
    model: SpeechModelSpec,
    profiles: Sequence[ResolvedProfile],
    stores: Mapping[str, WeightStore],
    lowerings: Mapping[str, Lowering],
    quantized: str | None = None,
    kv_precision: str | None = None,
) -> dict[str, Graphs]:
    """Write encoders, decode step and one prefill a profile for each target.

    All files stand beside the folder of the weights, because ONNX looks for these below the graph. Those for
    the first target have plain names; one for another target is called TARGET.NAME, unless it is equal.

    Args:
        folder: the artifact.
        model: what is built.
        profiles: one prefill each.
        stores: where the weights are, by precision.
        lowerings: by target.
        quantized: what the large matrices of the model are in, if they are quantised.
        kv_precision: what keys and values of a prompt are kept in, if not in what the graphs compute in.

    Raises:
        ProfileError: a method that a target does not have.
    """
    sets: dict[str, Graphs] = {}
    if kv_precision:
        decoder = replace(model.decoder, prefix_type=PREFIX_TYPES[kv_precision])
        model = replace(model, decoder=decoder)
    for target, lowering in lowerings.items():
        precision = lowering.precision.name
        built = build_graphs(model, profiles, stores[precision], lowering)
        prefix = f"{target}." if sets else ""
        files = {name: _write(folder, name, prefix, it.SerializeToString()) for name, it in built.items()}
        prefills = {profile.name: files[prefill_file(profile.name)] for profile in profiles}
        sets[target] = Graphs(
            precision=precision,
            weights=precision,
            encoder=files[ENCODER_FILE],
            decode=files[DECODE_FILE],
            prefill=prefills,
            wave_encoder=files.get(WAVE_ENCODER_FILE),
            prompt_adapter=files.get(PROMPT_ADAPTER_FILE),
            quantized=quantized,
            kv_precision=kv_precision,
        )
    return sets


def _write(folder: Path, name: str, prefix: str, content: bytes) -> str:
    """The name of the file that holds it: the plain one if that is there with this content."""
    if prefix and (folder / name).read_bytes() == content:
        return name
    (folder / f"{prefix}{name}").write_bytes(content)
    return f"{prefix}{name}"
