"""All engines of an artifact: encoder, the decode step of all profiles, and one prefill a profile."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import onnx

from ..plugins.body import DOMAIN
from ..plugins.tensorrt_library import VERSION
from ..profiles.errors import EngineError
from ..profiles.flops import ResolvedProfile
from ..runtime.engine_manifest import EngineRecord, Engines, Target, plan_name
from ..runtime.hashing import sha256
from .build_options import PRODUCTS, EngineOptions
from .engine import EngineFacts, EngineRequest, Expected, Progress, build_engine, check_reproducible
from .lowering.tensorrt import TensorRTLowering
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
PREFILL = "prefill."
REDUCING_NODE = re.compile(r"/layers\.(\d+)/reduce/")

Report = Callable[[str], None]
WriteGraphs = Callable[..., Sequence[str]]


@dataclass(frozen=True)
class Built:
    """One engine in the folder."""

    name: str  # encoder, decode, prefill.<profile>
    request: EngineRequest
    facts: EngineFacts
    graph_sha256: str
    layer_ratios: tuple[Fraction, ...]


def build_engines(
    folder: Path,
    model: SpeechModelSpec,
    profiles: Sequence[ResolvedProfile],
    options: EngineOptions,
    write_graphs: WriteGraphs,
    audio_rows: int,
    report: Report,
    progress: Progress = lambda *_: None,
) -> tuple[Engines, list[str]]:
    """Build every engine into `folder`.

    Args:
        folder: the artifact.
        model: what is built.
        profiles: one prefill each.
        options: target, precision and limits.
        write_graphs: writes the graphs for a lowering and returns their names.
        audio_rows: rows of `audio_embeds` for the longest clip, those around its frames too.
        report: called with the name of each stage as it begins.
        progress: told how far the engine at work is.

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
        lowering = TensorRTLowering(precision, audio_rows)
        names = write_graphs(Path(scratch), model, profiles, store, lowering)
        store.write(Path(scratch))
        graphs = {name.removesuffix(".onnx"): Path(scratch) / name for name in names}
        check_ratios(graphs, profiles)
        plugins = _plugins(folder, Path(scratch), graphs.values(), options, report)
        built = []
        for name, graph in graphs.items():
            report(f"engine {name} (sm_{options.sm})")
            plan = folder / FOLDER / f"{name}.plan"
            built.append(_build(name, graph, plan, plugins, model, audio_rows, options, progress))
    return _record(built, options, audio_rows, plugins), _files(built, plugins)


def check(model: SpeechModelSpec, audio_rows: int, options: EngineOptions) -> None:
    """Refuse what no engine can be built for.

    Raises:
        EngineError: the precision, more rows than the model has positions, or a system that allows no
            reproducible build where one is asked for.
    """
    if options.precision not in ("fp16", "bf16"):
        raise EngineError(
            f"precision {options.precision}: TensorRT has no fused attention for it; choose bf16 or fp16"
        )
    check_positions(model, audio_rows, options)
    if options.reproducible:
        check_reproducible()


def plugin_layers(graph: Path) -> dict[str, int]:
    """How many nodes of each plugin a graph has."""
    nodes = onnx.load(str(graph), load_external_data=False).graph.node
    return dict(Counter(node.op_type for node in nodes if node.domain == DOMAIN))


def graph_ratios(graph: Path) -> dict[int, Fraction]:
    """The share of the rows that each reducing node of a graph removes, by layer."""
    ratios = {}
    for node in onnx.load(str(graph), load_external_data=False).graph.node:
        place = REDUCING_NODE.match(node.name)
        fields = {attribute.name: attribute.i for attribute in node.attribute}
        if place and "denominator" in fields:
            ratios[int(place[1])] = Fraction(fields["numerator"], fields["denominator"])
    return ratios


def check_ratios(graphs: Mapping[str, Path], profiles: Sequence[ResolvedProfile]) -> None:
    """Refuse a prefill graph that removes other shares than its profile says.

    Raises:
        EngineError: with the profile, the layer and both shares.
    """
    for resolved in profiles:
        found = graph_ratios(graphs[PREFILL + resolved.name])
        for layer, wanted in enumerate(
            resolved.ratios[:-1]
        ):  # of the last layer only the last row is computed
            if found.get(layer, Fraction(0)) != wanted:
                raise EngineError(
                    f"profile {resolved.name!r}: layer {layer} of the graph removes "
                    f"{found.get(layer, Fraction(0))} of the rows, the profile {wanted}; build again"
                )


def _build(
    name: str,
    graph: Path,
    plan: Path,
    plugins: Path | None,
    model: SpeechModelSpec,
    audio_rows: int,
    options: EngineOptions,
    progress: Progress,
) -> Built:
    layers, digest = plugin_layers(graph), sha256(graph)
    request = EngineRequest(
        product=PRODUCTS[options.engine],
        name=plan_name(name, digest),
        graph=graph,
        plan=plan,
        profile=_profile(name, model, audio_rows, options),
        sm=options.sm,
        plugins=plugins if layers else None,
        expected=Expected(layers, _attention_layers(name, model), causal=name.startswith(PREFILL)),
        reproducible=options.reproducible,
    )
    facts = build_engine(request, plan.with_suffix(".log"), progress)
    found = graph_ratios(graph)
    ratios = tuple(found.get(layer, Fraction(0)) for layer in range(model.decoder.dims.num_layers))
    return Built(name, request, facts, digest, ratios if name.startswith(PREFILL) else ())


def _attention_layers(name: str, model: SpeechModelSpec) -> int:
    """Fused attention layers: those of the encoder, all but the last (one query row) of a prefill."""
    if name == "encoder":
        return len(model.encoder.layers)
    return model.decoder.dims.num_layers - 1 if name.startswith(PREFILL) else 0


def _plugins(folder: Path, scratch: Path, graphs: Any, options: EngineOptions, report: Report) -> Path | None:
    """The library in the scratch folder, with a copy in the artifact; None where no graph needs it."""
    if not any(plugin_layers(graph) for graph in graphs):
        return None
    from ..plugins.build import build_plugins

    report(f"plugin library (sm_{options.sm})")
    library = build_plugins(scratch, sms=(options.sm,)).path
    shutil.copyfile(library, folder / FOLDER / library.name)
    return library


def _profile(
    name: str, model: SpeechModelSpec, audio_rows: int, options: EngineOptions
) -> OptimizationProfile:
    if name == "encoder":
        return encoder_profile(model)
    if name == "decode":
        return decode_profile(model, audio_rows, options)
    return prefill_profile(model, audio_rows, options)


def _record(built: Sequence[Built], options: EngineOptions, audio_rows: int, plugins: Path | None) -> Engines:
    return Engines(
        target=Target(PRODUCTS[options.engine], built[0].facts.version, options.sm),
        precision=options.precision,
        plugin_library=f"{FOLDER}/{plugins.name}" if plugins else None,
        plugin_abi=VERSION,
        max_beams=options.max_beams,
        max_audio_seconds=options.max_audio_seconds,
        max_audio_rows=audio_rows,
        max_text_rows=options.max_text_rows,
        max_new_tokens=options.max_new_tokens,
        reproducible=options.reproducible,
        verified_on=None,
        plans={engine.name: _engine(engine) for engine in built},
    )


def _engine(engine: Built) -> EngineRecord:
    return EngineRecord(
        file=f"{FOLDER}/{engine.name}.plan",
        graph_sha256=engine.graph_sha256,
        layer_ratios=tuple(map(str, engine.layer_ratios)),
        seconds=round(engine.facts.seconds, 2),
        peak_bytes=engine.facts.peak_bytes,
        plugin_layers=engine.request.expected.plugin_layers,
        shapes=engine.request.profile.shapes,
    )


def _files(built: Sequence[Built], plugins: Path | None) -> list[str]:
    names = [f"{FOLDER}/{engine.name}{suffix}" for engine in built for suffix in (".plan", ".log")]
    return names + ([f"{FOLDER}/{plugins.name}"] if plugins else [])
