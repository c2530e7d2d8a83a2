"""The graphs that engines are built from, kept: for trtexec, Polygraphy and other tools of TensorRT."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..profiles.errors import OutputError
from ..profiles.profile import Profile
from .checkpoint import Checkpoint
from .families.family import load_model
from .lowering.tensorrt import TensorRTLowering
from .model_spec import tensors_of
from .pipeline import resolve_for, write_graphs
from .precision import BY_NAME
from .weights import weight_store


def write_tensorrt_graphs(
    checkpoint: Path, output: Path, profiles: Sequence[Profile], precision: str
) -> list[Path]:
    """Write the graphs with plugin nodes and without function bodies, and the weights beside them.

    Args:
        checkpoint: folder with config.json and safetensors.
        output: a folder that does not exist yet.
        profiles: one prefill each.
        precision: "bf16" or "fp16".

    Returns:
        the paths of the graphs.

    Raises:
        CheckpointError, ProfileError: what cannot be built.
        OutputError: the folder exists.
    """
    if output.exists():
        raise OutputError(f"output {output} exists; give another folder")
    model = load_model(Checkpoint(checkpoint))
    resolved = [resolve_for(profile, model) for profile in profiles]
    store = weight_store(tensors_of((model.encoder, model.decoder)), "copy", BY_NAME[precision])
    output.mkdir(parents=True)
    names = write_graphs(output, model, resolved, store, TensorRTLowering(BY_NAME[precision]))
    store.write(output)
    return [output / name for name in names]
