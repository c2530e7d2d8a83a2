"""From a checkpoint to an artifact: the table of contents of a build."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..profiles.errors import RequestError
from ..profiles.signature import WordHeads, word_head_faults
from ..runtime.artifact.artifact import TOKENIZER
from ..runtime.artifact.manifest import FILE_NAME, FileRecord, Manifest
from ..runtime.artifact.verification import large_files, remember_built
from ..runtime.tables.units import size
from .adapt import adapted
from .checkpoint.checkpoint import CONFIG, Checkpoint
from .checkpoint.tokenizer import prompt_codec, tokenizer_json
from .checkpoint.weights import weight_store
from .engines.build import build_engines, check_engines
from .engines.engine import Progress
from .engines.request_limits import within_engines
from .folder import Notice, check_output, temporary_folder
from .graphs.sets import write_graph_sets
from .graphs.write import check_methods
from .manifest import manifest_of
from .model.families.family import load_model, say
from .model.fit import idle_notes, resolve_for
from .model.quantize import Calibrated, beside_engines, of_engines, quantized
from .model.spec import SpeechModelSpec
from .options import BuildOptions
from .targets import TARGETS

Report = Callable[[str], None]


def build(
    checkpoint: Path,
    output: Path,
    options: BuildOptions,
    report: Report = lambda _: None,
    progress: Progress = lambda *_: None,
    notice: Notice = lambda _: None,
) -> Manifest:
    """Build an artifact.

    It is written to a temporary folder beside `output`, which takes the name in one step when it is whole.

    Args:
        checkpoint: folder with config.json and safetensors.
        output: the artifact's folder; must not exist, unless `options.force`, which replaces an artifact.
        options: profiles, targets, how the weights get there, engines.
        report: called with the name of each stage as it begins.
        progress: told how many matrices are calibrated, how many bytes of the weights are there, and how far
            the engine at work is.
        notice: called with a line for each thing that a build that was killed has left there, once it is
            removed.

    Raises:
        CheckpointError, ProfileError, OutputError, RequestError, AudioError, EngineError, DependencyError:
            before anything is left behind.
    """
    check_output(output, options.force, notice)
    report("read checkpoint")
    found = load_model(source := Checkpoint(checkpoint))
    model = adapted(_as_asked(found, source, options), source, options, report)
    profiles = [resolve_for(profile, model) for profile in options.profiles]
    say(idle_notes(profiles))
    targets = {name: TARGETS[name] for name in options.targets}
    lowerings = {name: it.lowering(it.precision(options.precision), model) for name, it in targets.items()}
    for lowering in lowerings.values():
        check_methods(profiles, lowering)
    if options.engines:
        check_engines(model, profiles, options.engines)
    calibrated = _calibrated(model, source, options, report, progress)
    model, engine_model = _quantized(model, options, calibrated)
    say(model.notes[len(found.notes) :])
    in_bytes = partial(_in_bytes, progress)
    precisions = {lowering.precision.name: lowering.precision for lowering in lowerings.values()}
    stores = {name: weight_store(model.tensors, options.weights, it) for name, it in precisions.items()}
    with temporary_folder(output, options.force) as folder:
        report("build graphs")
        formats = options.quantize, options.kv_precision
        graphs = write_graph_sets(folder, model, profiles, stores, lowerings, *formats)
        files: dict[str, FileRecord | None] = {name: None for each in graphs.values() for name in each.files}
        for store in stores.values():
            report(f"write weights ({store.description})")
            files |= store.write(folder, in_bytes)
        files |= dict.fromkeys(_copy_settings(source, folder))
        engines = None
        if options.engines:
            engines, plans = build_engines(folder, engine_model, profiles, options.engines, report, progress)
            files |= dict.fromkeys(plans)
        report("hash files")
        large = large_files(folder, files)
        manifest = manifest_of(folder, files, model, profiles, graphs, stores, engines, in_bytes)
        (folder / FILE_NAME).write_text(manifest.to_json(), "utf-8")
    remember_built(output, manifest.files, large)
    return manifest


def _as_asked(model: SpeechModelSpec, checkpoint: Checkpoint, options: BuildOptions) -> SpeechModelSpec:
    """The model with the defaults of requests that the build is asked for, or that its engines allow.

    Raises:
        CheckpointError: a default prompt, and no tokenizer.
        RequestError: a default prompt that the model cannot take.
    """
    if options.engines:
        model = within_engines(model, options.engines)
    heads = options.word_heads
    _check_word_heads(heads, model, options)
    maps = options.row_maps or heads is not None
    model = replace(model, decoder=replace(model.decoder, row_maps=maps, word_heads=heads))
    if options.prompt is None:
        return model
    codec = prompt_codec(checkpoint, model.prompt)
    assert model.prompt is not None, "a codec was made of it"
    codec.encode(options.prompt)
    return replace(model, prompt=replace(model.prompt, default_prompt=options.prompt))


def _check_word_heads(heads: WordHeads | None, model: SpeechModelSpec, options: BuildOptions) -> None:
    """Refuse heads that the model lacks, and profiles under which no row of their layer is one for all."""
    if heads is None:
        return
    if faults := list(word_head_faults(heads, model.decoder.dims)):
        raise RequestError("; ".join(faults))
    if apart := ", ".join(profile.name for profile in options.profiles if profile.traits.is_of_caches):
        raise RequestError(
            f"word_heads beside profile {apart}: each head keeps other rows, so where they look has no mean; "
            f"build two artifacts, that with word_heads without {apart}"
        )


def _quantized(
    model: SpeechModelSpec, options: BuildOptions, calibrated: Calibrated
) -> tuple[SpeechModelSpec, SpeechModelSpec]:
    """What graphs are built of, and what engines are: each has matrices in a form of its own."""
    if options.quantize is None:
        return model, model
    if options.engines is None:
        (target,) = (TARGETS[name] for name in options.targets)  # the options hold that there is one
        chosen = target.precision(options.precision), calibrated, options.int4_block
        return quantized(model, options.quantize, target.quantizers(*chosen)), model
    precision = options.engines.precision
    forms = beside_engines(precision), of_engines(precision)
    for_graphs, for_engines = (quantized(model, options.quantize, each) for each in forms)
    return for_graphs, for_engines


def _calibrated(
    model: SpeechModelSpec, checkpoint: Checkpoint, options: BuildOptions, report: Report, progress: Progress
) -> Calibrated:
    """The matrices that clips quantise, if there are any clips."""
    if options.calibration is None:
        return {}
    from .calibration.calibrate import calibrated
    from .checkpoint.precision import BY_NAME

    report("calibrate")
    (target,) = (TARGETS[name] for name in options.targets)
    scales_in, tick = BY_NAME[target.precision(options.precision)], partial(_in_matrices, progress)
    return calibrated(model, checkpoint, options.calibration, options.int4_block, scales_in, tick=tick)


def _in_matrices(progress: Progress, done: int, total: int) -> None:
    progress(f"{done} of {total} matrices", done, total)


def _in_bytes(progress: Progress, done: int, total: int) -> None:
    progress(f"{size(done)} of {size(total)}", done, total)


def _copy_settings(checkpoint: Checkpoint, folder: Path) -> list[str]:
    """The tokenizer, where there is one, and the settings, from which `check` builds its reference."""
    shutil.copyfile(checkpoint.folder / CONFIG, folder / CONFIG)
    if (tokenizer := tokenizer_json(checkpoint)) is None:
        return [CONFIG]
    (folder / TOKENIZER).write_bytes(tokenizer)
    return [CONFIG, TOKENIZER]
