"""All graphs of an artifact: those of the audio tower, decode step, and one prefill a profile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx

from ...profiles.errors import ProfileError
from ...profiles.flops import ResolvedProfile
from ...runtime.artifact.engines import PROMPT_ADAPTER, WAVE_ENCODER, prefill_engine
from ..checkpoint.weights import WeightStore
from ..model.spec import SpeechModelSpec
from .decode import build_decode
from .encoder import build_encoder
from .lowering.lowering import Lowering
from .prefill import build_prefill
from .prompt_adapter import build_prompt_adapter
from .wave_encoder import build_wave_encoder

ENCODER_FILE = "encoder.onnx"
WAVE_ENCODER_FILE = f"{WAVE_ENCODER}.onnx"
DECODE_FILE = "decode.onnx"
PROMPT_ADAPTER_FILE = f"{PROMPT_ADAPTER}.onnx"


def write_graphs(
    folder: Path,
    model: SpeechModelSpec,
    profiles: Sequence[ResolvedProfile],
    store: WeightStore,
    lowering: Lowering,
) -> list[str]:
    """Write the encoders, the decode step and one prefill a profile; return their file names."""
    graphs = build_graphs(model, profiles, store, lowering)
    for name, graph in graphs.items():
        (folder / name).write_bytes(graph.SerializeToString())
    return list(graphs)


def build_graphs(
    model: SpeechModelSpec, profiles: Sequence[ResolvedProfile], store: WeightStore, lowering: Lowering
) -> dict[str, onnx.ModelProto]:
    """The same in memory, by the names of the files.

    Raises:
        ProfileError: a method that the lowering does not have.
    """
    check_methods(profiles, lowering)
    graphs = {
        **build_tower(model, store, lowering, any(profile.takes_row_weights for profile in profiles)),
        DECODE_FILE: build_decode(model.decoder, store, lowering.for_steps),
    }
    if adapter := model.decoder.prompt_adapter:
        graphs[PROMPT_ADAPTER_FILE] = build_prompt_adapter(model.decoder, adapter, store, lowering.for_steps)
    for resolved in profiles:
        graphs[prefill_file(resolved.name)] = build_prefill(
            model.decoder, model.front_end, store, lowering, resolved
        )
    return graphs


def build_tower(
    model: SpeechModelSpec, store: WeightStore, lowering: Lowering, weighs_rows: bool = False
) -> dict[str, onnx.ModelProto]:
    """The graphs of the audio tower alone; `weighs_rows` as in `build_encoder`."""
    graphs = {ENCODER_FILE: build_encoder(model, store, lowering, weighs_rows)}
    if model.wave_encoder:
        graphs[WAVE_ENCODER_FILE] = build_wave_encoder(
            model.wave_encoder, model.front_end, model.decoder.dims.hidden_size, store, lowering
        )
    return graphs


def check_methods(profiles: Sequence[ResolvedProfile], lowering: Lowering) -> None:
    """Refuse methods that the backend cannot lower.

    Raises:
        ProfileError: naming the profiles, and why.
    """
    if not lowering.takes_data_dependent_lengths:
        _refuse(
            [profile for profile in profiles if not profile.has_static_lengths],
            f"how many rows are left depends on the data, and {lowering.name} must know every length from "
            "the shapes of the inputs",
        )
    if not lowering.has_loops:
        _refuse(
            [profile for profile in profiles if profile.profile.traits.selects_groups and profile.places],
            f"it chooses one row after the other, and {lowering.name} is not good at repeating nodes",
        )
    if not lowering.evicts_caches:
        _refuse(
            [profile for profile in profiles if profile.is_of_caches and profile.reducing_layers],
            f"each KV head keeps the rows that it attends to most, and {lowering.name} has no plugin that "
            "sums attention by head",
        )


def _refuse(profiles: Sequence[ResolvedProfile], reason: str) -> None:
    if profiles:
        names = ", ".join(f"{profile.name} ({profile.method})" for profile in profiles)
        raise ProfileError(f"profile {names}: {reason}; choose another method, or build for onnxruntime")


def prefill_file(profile: str) -> str:
    """The file of one profile's prefill graph."""
    return f"{prefill_engine(profile)}.onnx"
