"""The transformers model that everything is compared with: from the artifact alone, or from a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx

from ...profiles.errors import ArtifactError, CheckpointError
from ...profiles.json_text import JsonError, read_object
from ...runtime.artifact.artifact import Artifact
from ...runtime.artifact.manifest import Graphs, WeightPlace
from ..checkpoint.checkpoint import CONFIG, Checkpoint
from ..checkpoint.derived import ADAPTED
from ..model.families.family import families_with_reference, load_model, reference_of
from ..model.families.parts.reference import TransformersReference
from ..model.quantize import quantized
from ..model.spec import SpeechModelSpec
from ..reference.dequantized import dequantized, kept_tables
from ..reference.layers import Model
from .matrices import quantizers_of

PRODUCT_IN_BLOCKS = "MatMulNBits"


def load_for(artifact: Artifact, checkpoint: Path | None) -> Model:
    """The model of an artifact.

    Args:
        artifact: what is to be checked.
        checkpoint: the checkpoint that it was built from; None takes the weights in the artifact. So do
            quantised ones: what rounding did to them is not the fault of a graph (see `matrices.py`).

    Raises:
        ArtifactError: no reference can be made from it.
        CheckpointError: a checkpoint of another model.
    """
    from transformers.utils import logging

    family = artifact.manifest.family
    reference = reference_of(family)
    if reference is None:
        known = ", ".join(families_with_reference())
        raise ArtifactError(
            f"artifact {artifact.folder}: family {family} has no model in transformers to compare with; "
            f"there is one for {known}; compare a recording: check CHECKPOINT --golden DIR"
        )
    logging.disable_progress_bar()
    if checkpoint is None:
        return _from_artifact(artifact, reference)
    if any(ADAPTED in name for name in _places(artifact)):
        raise CheckpointError(
            f"checkpoint {checkpoint}: an adapter is folded into {artifact.folder}, which its base model "
            "alone does not have; check it without --checkpoint"
        )
    form, model = _first_graphs(artifact).quantized, load_model(Checkpoint(checkpoint))
    if form:
        model = quantized(model, form, quantizers_of(artifact, _places(artifact)))
    if faults := list(_differences(artifact, model)):
        again = ", or build it again if another version of this tool has quantised it" if form else ""
        raise CheckpointError(
            f"checkpoint {checkpoint}: {'; '.join(faults)}; give the one that {artifact.folder} comes "
            f"from{again}"
        )
    return _from_artifact(artifact, reference) if form else reference.load(checkpoint)


def _from_artifact(artifact: Artifact, reference: TransformersReference) -> Model:
    """The settings, and tensors by the names in the headers of the weight files: the manifest's offsets are
    among what is checked.
    """
    from safetensors.torch import load_file

    if CONFIG not in artifact.manifest.files:
        raise ArtifactError(
            f"artifact {artifact.folder}: it was built without {CONFIG}; build it again, or give --checkpoint"
        )
    places, graphs = _places(artifact), _first_graphs(artifact)
    files = sorted({place.file for place in places.values()})
    tensors = {name: tensor for file in files for name, tensor in load_file(artifact.path(file)).items()}
    if missing := sorted(places.keys() - tensors.keys()):
        raise ArtifactError(
            f"artifact {artifact.folder}: {', '.join(files)} have no tensor {missing[0]}; build it again"
        )
    widths = _inputs_of_products(artifact) if graphs.quantized else {}
    model = reference.of_tensors(_config(artifact), dequantized(tensors, widths))
    for table in kept_tables(tensors):  # the head alone has the numbers in fewer bits
        rows = model.get_input_embeddings()
        rows.weight = type(rows.weight)(table.to(rows.weight.dtype))
    return model


def _inputs_of_products(artifact: Artifact) -> dict[str, int]:
    """How many inputs each product by a matrix in blocks takes, by the name of its values.

    No file of weights says how much of a last block is filled up. A graph that is wrong about it gives a
    matrix of a shape that is refused when the model is loaded.
    """
    graphs = _first_graphs(artifact)
    files = graphs.encoder, graphs.decode, *graphs.prefill.values()
    models = (onnx.load_model_from_string(artifact.read(file)) for file in files)
    return {
        node.input[1]: next(each.i for each in node.attribute if each.name == "K")
        for model in models
        for node in model.graph.node
        if node.op_type == PRODUCT_IN_BLOCKS
    }


def _config(artifact: Artifact) -> dict[str, Any]:
    try:
        return read_object(artifact.read(CONFIG), lenient=True)
    except JsonError as error:
        raise ArtifactError(f"artifact {artifact.folder}: {CONFIG} {error}; build it again") from None


def _first_graphs(artifact: Artifact) -> Graphs:
    return next(iter(artifact.manifest.graphs.values()))


def _places(artifact: Artifact) -> dict[str, WeightPlace]:
    """Of the first target: all are checked against the same numbers."""
    weights = artifact.weights(_first_graphs(artifact))
    return {**weights.encoder, **weights.decoder}


def _differences(artifact: Artifact, model: SpeechModelSpec) -> Iterator[str]:
    """Why this checkpoint cannot be the one of the artifact."""
    manifest, found, sizes = (
        artifact.manifest,
        asdict(model.decoder.dims),
        asdict(artifact.manifest.decoder.dims),
    )
    if model.family != manifest.family:
        yield f"family {model.family} instead of {manifest.family}"
        return
    different = [name for name in sizes if found[name] != sizes[name]]
    yield from (f"{name} {found[name]} instead of {sizes[name]}" for name in different)
    shapes = {tensor.name: tensor.shape for tensor in model.tensors}
    expected = {name: place.shape for name, place in _places(artifact).items()}
    if not different and (names := sorted(n for n in expected if shapes.get(n) != expected[n])):
        name = names[0]
        shape = f"{shapes[name]} instead of {expected[name]}" if name in shapes else "not made of it"
        yield f"{name} is {shape}"
