"""The graphs that engines are built from, kept: for trtexec, Polygraphy and other tools of TensorRT."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ...profiles.errors import OutputError
from ...profiles.profile import Profile
from ..checkpoint.checkpoint import Checkpoint
from ..checkpoint.precision import BY_NAME
from ..checkpoint.weights import weight_store
from ..folder import temporary_folder
from ..graphs.lowering.tensorrt import TensorRTLowering
from ..graphs.write import write_graphs
from ..model.families.family import load_model
from ..model.fit import decoder_rows, resolve_for
from ..options import EngineOptions
from ..scratch import remove_leftovers


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
    if os.path.lexists(output):
        raise OutputError(f"output {output} exists; give another folder")
    remove_leftovers(output)
    model = load_model(Checkpoint(checkpoint))
    resolved = [resolve_for(profile, model) for profile in profiles]
    longest = decoder_rows(model, EngineOptions.max_audio_seconds)
    lowering = TensorRTLowering(BY_NAME[precision], longest)
    store = weight_store(model.tensors, "copy", BY_NAME[precision])
    with temporary_folder(output, force=False) as folder:
        names = write_graphs(folder, model, resolved, store, lowering)
        store.write(folder)
    return [output / name for name in names]
