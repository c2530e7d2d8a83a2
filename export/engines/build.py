"""All engines of an artifact: encoders, the decode step of all profiles, and one prefill a profile."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from ...plugins.tensorrt_library import VERSION
from ...profiles.errors import EngineError
from ...profiles.flops import ResolvedProfile
from ...profiles.schedule import BEFORE_LAYERS
from ...runtime.artifact.engines import (
    DECODE,
    ENCODER,
    PROMPT_ADAPTER,
    WAVE_ENCODER,
    EngineRecord,
    Engines,
    Machine,
    plan_name,
)
from ...runtime.artifact.hashing import sha256
from ...runtime.tensorrt.device import CudaDevice, Device
from ..checkpoint.precision import BY_NAME
from ..checkpoint.weights import weight_store
from ..graphs.lowering.tensorrt import TensorRTLowering
from ..graphs.write import check_methods, write_graphs
from ..model.fit import decoder_rows
from ..model.spec import SpeechModelSpec
from ..options import BUILT_IN_PLACE, PRODUCTS, RTX, EngineOptions
from .engine import Progress, build_engine, check_reproducible
from .matrices import check_plan_size, matrices_by_form
from .messages import EngineRequest, Expected, OptimizationProfile
from .plugin_nodes import check_ratios, graph_ratios, plugin_layers
from .shapes import (
    check_positions,
    decode_profile,
    encoder_profile,
    prefill_profile,
    prompt_adapter_profile,
    wave_encoder_profile,
)

FOLDER = "engines"
SHARED = (ENCODER, WAVE_ENCODER, DECODE, PROMPT_ADAPTER)  # by all profiles
CAUSAL = (PROMPT_ADAPTER,)  # of these

Report = Callable[[str], None]


@dataclass(frozen=True)
class Built:
    """One engine in the folder."""

    name: str
    record: EngineRecord
    version: str  # of what built it


def build_engines(
    folder: Path,
    model: SpeechModelSpec,
    profiles: Sequence[ResolvedProfile],
    options: EngineOptions,
    report: Report,
    progress: Progress = lambda *_: None,
) -> tuple[Engines, list[str]]:
    """Build every engine into `folder`, once `check_engines` has passed.

    Args:
        folder: the artifact.
        model: what is built.
        profiles: one prefill each.
        options: target, precision and limits.
        report: called with the name of each stage as it begins.
        progress: told how far the engine at work is.

    Returns:
        the record for the manifest, and the names of the files.

    Raises:
        EngineError: with the engine and the node or the reason.
    """
    (folder / FOLDER).mkdir()
    audio_rows = decoder_rows(model, options.max_audio_seconds)
    precision = BY_NAME[options.precision]
    store = weight_store(model.tensors, "copy", precision)
    place = None if options.reproducible else folder  # a path as long each time, wherever the artifact is
    with tempfile.TemporaryDirectory(prefix=".engines.", dir=place) as scratch:
        report(f"write {options.precision} graphs")
        names = write_graphs(Path(scratch), model, profiles, store, _lowering(model, options))
        store.write(Path(scratch))
        graphs = {name.removesuffix(".onnx"): Path(scratch) / name for name in names}
        check_ratios(graphs, profiles)
        plugins = _plugins(folder, Path(scratch), graphs.values(), options, report)
        builder = _Builder(folder / FOLDER, model, audio_rows, options, plugins)
        built = []
        for name, graph in graphs.items():
            report(f"engine {name} (sm_{options.sm})")
            built.append(builder.build(name, graph, progress))
    return _record(built, options, audio_rows, plugins), _files(built, plugins)


def check_engines(
    model: SpeechModelSpec, profiles: Sequence[ResolvedProfile], options: EngineOptions
) -> None:
    """Refuse what no engine can be built for.

    Raises:
        ProfileError: a method that engines do not have.
        EngineError: more rows than the model has positions, another GPU than the engines would be for, or a
            system that allows no reproducible build where one is asked for.
        DependencyError: cuda-python is missing, by which the GPU is asked.
    """
    check_methods(profiles, _lowering(model, options))
    check_positions(model, decoder_rows(model, options.max_audio_seconds), options)
    if options.engine == BUILT_IN_PLACE:
        _check_gpu(_device(), options.sm)
    if options.reproducible:
        check_reproducible()


def _lowering(model: SpeechModelSpec, options: EngineOptions) -> TensorRTLowering:
    return TensorRTLowering(BY_NAME[options.precision], decoder_rows(model, options.max_audio_seconds))


def _device() -> Device:
    try:
        return CudaDevice()
    except EngineError as error:
        raise EngineError(
            f"--engine {BUILT_IN_PLACE} builds for the GPU that it runs on, and none can be used here; "
            f"--engine {RTX} needs none"
        ) from error


def _check_gpu(here: Device, sm: int) -> None:
    """Refuse plans that the manifest would say are for another GPU than the one that makes them."""
    if here.sm != sm:
        raise EngineError(
            f"sm is {sm}, and {BUILT_IN_PLACE} builds for the GPU that it runs on, {here.name} of {here.sm}; "
            f"give --sm {here.sm}, or --engine {RTX} for other GPUs"
        )


@dataclass(frozen=True)
class _Builder:
    """Builds each engine of an artifact."""

    folder: Path
    model: SpeechModelSpec
    audio_rows: int
    options: EngineOptions
    plugins: Path | None

    def build(self, name: str, graph: Path, progress: Progress) -> Built:
        """Build one engine, and record what it was built from."""
        digest = sha256(graph)
        request = self._request(name, graph, digest)
        facts = build_engine(request, request.plan.with_suffix(".log"), progress)
        check_plan_size(graph, request.plan)
        record = EngineRecord(
            file=f"{FOLDER}/{request.plan.name}",
            graph_sha256=digest,
            input_ratio=graph_ratios(graph).get(BEFORE_LAYERS, Fraction(0)),
            layer_ratios=() if name in SHARED else self._ratios(graph),
            seconds=round(facts.seconds, 2),
            peak_bytes=facts.peak_bytes,
            plugin_layers=request.expected.plugin_layers,
            shapes=request.profile.shapes,
            quantized=request.expected.quantized,
        )
        return Built(name, record, facts.version)

    def _request(self, name: str, graph: Path, digest: str) -> EngineRequest:
        layers = plugin_layers(graph)
        expected = Expected(
            layers,
            self._attention_layers(name),
            causal=name not in SHARED or name in CAUSAL,
            quantized=matrices_by_form(graph),
        )
        return EngineRequest(
            product=PRODUCTS[self.options.engine],
            name=plan_name(name, digest),
            graph=graph,
            plan=self.folder / f"{name}.plan",
            profile=self._profile(name),
            sm=self.options.sm,
            plugins=self.plugins if layers else None,
            expected=expected,
            reproducible=self.options.reproducible,
        )

    def _ratios(self, graph: Path) -> tuple[Fraction, ...]:
        """The share of the rows that each layer removes."""
        found = graph_ratios(graph)
        return tuple(found.get(layer, Fraction(0)) for layer in range(self.model.decoder.dims.num_layers))

    def _profile(self, name: str) -> OptimizationProfile:
        if name == ENCODER:
            return encoder_profile(self.model, self.options)
        if name == WAVE_ENCODER:
            return wave_encoder_profile(self.model, self.options)
        if name == PROMPT_ADAPTER:
            return prompt_adapter_profile(self.model, self.options)
        profile = decode_profile if name == DECODE else prefill_profile
        return profile(self.model, self.audio_rows, self.options)

    def _attention_layers(self, name: str) -> int:
        """Fused attention layers: those of an encoder without blocks, all but the last of a prefill."""
        if name == ENCODER:
            return self.model.encoder.fused_attentions
        layers = self.model.decoder.dims.num_layers
        return {WAVE_ENCODER: 0, DECODE: 0, PROMPT_ADAPTER: layers}.get(name, layers - 1)


def _plugins(
    folder: Path, scratch: Path, graphs: Iterable[Path], options: EngineOptions, report: Report
) -> Path | None:
    """The library in the scratch folder, with a copy in the artifact; None where no graph needs it."""
    if not any(plugin_layers(graph) for graph in graphs):
        return None
    from ...plugins.build import build_plugins

    report(f"plugin library (sm_{options.sm})")
    library = build_plugins(scratch, sms=(options.sm,)).path
    shutil.copyfile(library, folder / FOLDER / library.name)
    return library


def _record(built: Sequence[Built], options: EngineOptions, audio_rows: int, plugins: Path | None) -> Engines:
    return Engines(
        machine=Machine(PRODUCTS[options.engine], built[0].version, options.sm),
        precision=options.precision,
        plugin_library=f"{FOLDER}/{plugins.name}" if plugins else None,
        plugin_abi=VERSION,
        max_beams=options.max_beams,
        max_batch=options.max_batch,
        max_audio_seconds=options.max_audio_seconds,
        max_audio_rows=audio_rows,
        max_text_rows=options.max_text_rows,
        max_new_tokens=options.max_new_tokens,
        reproducible=options.reproducible,
        verified_on=None,
        plans={engine.name: engine.record for engine in built},
    )


def _files(built: Sequence[Built], plugins: Path | None) -> list[str]:
    names = [f"{FOLDER}/{engine.name}{suffix}" for engine in built for suffix in (".plan", ".log")]
    return names + ([f"{FOLDER}/{plugins.name}"] if plugins else [])
