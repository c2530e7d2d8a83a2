"""All engines of an artifact: encoder, the decode step of all profiles, and one prefill a profile."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from ..plugins.body import DOMAIN
from ..profiles.errors import EngineError
from ..profiles.flops import ResolvedProfile
from ..runtime.manifest import EngineRecord, Engines
from .build_options import EngineOptions
from .engine import EngineFacts, EngineRequest, build_engine
from .lowering.tensorrt import PLUGIN_VERSION, TensorRTLowering
from .model_spec import SpeechModelSpec, tensors_of
from .optimization_profile import (
    OptimizationProfile,
    check_positions,
    decode_profile,
    encoder_profile,
    prefill_profile,
)
from .precision import BY_NAME
from .weights import weight_store

FOLDER = "engines"
PLUGINS = "libfastadasp_plugins.so"

Report = Callable[[str], None]
WriteGraphs = Callable[..., Sequence[str]]


@dataclass(frozen=True)
class Built:
    """One engine in the folder."""

    name: str  # encoder, decode, prefill.<profile>
    request: EngineRequest
    facts: EngineFacts


def build_engines(
    folder: Path,
    model: SpeechModelSpec,
    profiles: Sequence[ResolvedProfile],
    options: EngineOptions,
    write_graphs: WriteGraphs,
    audio_rows: int,
    report: Report,
) -> tuple[Engines, list[str]]:
    """Build every engine into `folder`.

    Args:
        folder: the artifact.
        model: what is built.
        profiles: one prefill each.
        options: target, precision and limits.
        write_graphs: writes the graphs for a lowering and returns their names.
        audio_rows: audio rows of the longest clip.
        report: called with the name of each stage as it begins.

    Returns:
        the record for the manifest, and the names of the files.

    Raises:
        EngineError: with the engine and the node or the reason.
    """
    check(model, audio_rows, options)
    (folder / FOLDER).mkdir()
    precision = BY_NAME[options.precision]
    store = weight_store(tensors_of((model.encoder, model.decoder)), "copy", precision)
    with tempfile.TemporaryDirectory(prefix=".engines.", dir=folder) as scratch:
        report(f"write {options.precision} graphs")
        names = write_graphs(Path(scratch), model, profiles, store, TensorRTLowering(precision))
        store.write(Path(scratch))
        graphs = {name.removesuffix(".onnx"): Path(scratch) / name for name in names}
        layers = {name: plugin_layers(graph) for name, graph in graphs.items()}
        plugins = _plugins(folder, options, report) if any(layers.values()) else None
        built = []
        for name, graph in graphs.items():
            report(f"engine {name} (sm_{options.sm})")
            profile = _profile(name, model, audio_rows, options)
            plan = folder / FOLDER / f"{name}.plan"
            request = EngineRequest(
                graph, plan, profile, options.sm, plugins if layers[name] else None, layers[name]
            )
            built.append(Built(name, request, build_engine(request, plan.with_suffix(".log"))))
    return _record(built, options, plugins), _files(built, plugins)


def check(model: SpeechModelSpec, audio_rows: int, options: EngineOptions) -> None:
    """Refuse what no engine can be built for.

    Raises:
        EngineError: the precision, or more rows than the model has positions.
    """
    if options.precision not in ("fp16", "bf16"):
        raise EngineError(
            f"precision {options.precision}: TensorRT has no fused attention for it; choose bf16 or fp16"
        )
    check_positions(model, audio_rows, options)


def plugin_layers(graph: Path) -> dict[str, int]:
    """How many nodes of each plugin a graph has."""
    nodes = onnx.load(str(graph), load_external_data=False).graph.node
    return dict(Counter(node.op_type for node in nodes if node.domain == DOMAIN))


def _plugins(folder: Path, options: EngineOptions, report: Report) -> Path:
    from ..plugins.build import build_plugins

    report(f"plugin library (sm_{options.sm})")
    return build_plugins(folder / FOLDER, sms=(options.sm,)).path


def _profile(
    name: str, model: SpeechModelSpec, audio_rows: int, options: EngineOptions
) -> OptimizationProfile:
    if name == "encoder":
        return encoder_profile(model)
    if name == "decode":
        return decode_profile(model, audio_rows, options)
    return prefill_profile(model, audio_rows, options)


def _record(built: Sequence[Built], options: EngineOptions, plugins: Path | None) -> Engines:
    facts = built[0].facts
    return Engines(
        product=facts.product,
        version=facts.version,
        sm=options.sm,
        precision=options.precision,
        plugin_library=f"{FOLDER}/{plugins.name}" if plugins else None,
        plugin_version=PLUGIN_VERSION,
        max_beams=options.max_beams,
        max_audio_seconds=options.max_audio_seconds,
        max_new_tokens=options.max_new_tokens,
        numerically_verified=False,
        plans={engine.name: _engine(engine) for engine in built},
    )


def _engine(engine: Built) -> EngineRecord:
    profile = engine.request.profile
    shapes: Mapping[str, tuple[tuple[int, ...], ...]] = {**profile.shapes, **profile.values}
    return EngineRecord(
        file=f"{FOLDER}/{engine.name}.plan",
        seconds=round(engine.facts.seconds, 2),
        plugin_layers=engine.request.plugin_layers,
        shapes=shapes,
    )


def _files(built: Sequence[Built], plugins: Path | None) -> list[str]:
    names = [f"{FOLDER}/{engine.name}{suffix}" for engine in built for suffix in (".plan", ".log")]
    return names + ([f"{FOLDER}/{plugins.name}"] if plugins else [])
