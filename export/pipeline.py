"""From a checkpoint to an artifact: the table of contents of a build."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from ..profiles.errors import OutputError
from ..profiles.flops import ResolvedProfile
from ..runtime.artifact.artifact import TOKENIZER, record_of
from ..runtime.artifact.manifest import FILE_NAME, Decoder, Graphs, Manifest, WeightPlace, Weights
from .checkpoint.checkpoint import CONFIG, Checkpoint
from .checkpoint.tokenizer import tokenizer_file
from .checkpoint.weights import WeightStore, weight_store
from .engines.build import build_engines
from .engines.build import check as check_engines
from .engines.engine import Progress
from .folder import temporary_folder
from .graphs.lowering.onnxruntime import OnnxRuntimeLowering
from .graphs.write import DECODE_FILE, ENCODER_FILE, prefill_file, write_graphs
from .model.families.family import load_model
from .model.fit import longest_audio, resolve_for
from .model.spec import SpeechModelSpec, tensors_of
from .options import BuildOptions

VERSIONS_OF = ("fastadasp-export", "onnx", "onnxruntime", "numpy")

Report = Callable[[str], None]


def build(
    checkpoint: Path,
    output: Path,
    options: BuildOptions,
    report: Report = lambda _: None,
    progress: Progress = lambda *_: None,
) -> Manifest:
    """Build an artifact.

    It is written to a temporary folder beside `output` and renamed when it is whole.

    Args:
        checkpoint: folder with config.json and safetensors.
        output: the artifact's folder; must not exist, unless `options.force`.
        options: profiles, how the weights get there, precision.
        report: called with the name of each stage as it begins.
        progress: told how far the engine at work is.

    Raises:
        CheckpointError, ProfileError, OutputError: before anything is left behind.
    """
    _check_output(output, options.force)
    report("read checkpoint")
    model = load_model(source := Checkpoint(checkpoint))
    profiles = [resolve_for(profile, model) for profile in options.profiles]
    longest = longest_audio(model, options.engines.max_audio_seconds) if options.engines else 0
    if options.engines:
        check_engines(model, longest, options.engines)
    store = weight_store(model.tensors, options.weights)
    with temporary_folder(output, options.force) as folder:
        report("build graphs")
        names = write_graphs(folder, model, profiles, store, OnnxRuntimeLowering())
        report(f"write weights ({store.description})")
        names += store.write(folder)
        names += _copy_config(source, folder)
        engines = None
        if options.engines:
            engines, plans = build_engines(
                folder, model, profiles, options.engines, longest, report, progress
            )
            names += plans
        report("hash files")
        manifest = replace(_manifest(folder, model, profiles, store, names), engines=engines)
        (folder / FILE_NAME).write_text(manifest.to_json(), "utf-8")
    return manifest


def _check_output(output: Path, force: bool) -> None:
    """Refuse a place that an artifact cannot take, or that holds something else."""
    if output.exists() and not force:
        raise OutputError(f"output {output} exists; give another folder, or --force to replace it")
    if output.exists() and not (output / FILE_NAME).is_file():
        raise OutputError(f"output {output} is not an artifact; --force replaces artifacts only")
    nearest = next(parent for parent in output.absolute().parents if parent.exists())
    if not nearest.is_dir():
        raise OutputError(f"output {output}: {nearest} is a file; choose another folder")


def _copy_config(checkpoint: Checkpoint, folder: Path) -> list[str]:
    """The tokenizer, where there is one, and the settings, from which `check` builds its reference."""
    files = {CONFIG: checkpoint.folder / CONFIG, TOKENIZER: tokenizer_file(checkpoint)}
    present = {name: path for name, path in files.items() if path is not None}
    for name, path in present.items():
        shutil.copyfile(path, folder / name)
    return list(present)


def _manifest(
    folder: Path,
    model: SpeechModelSpec,
    profiles: Sequence[ResolvedProfile],
    store: WeightStore,
    names: Sequence[str],
) -> Manifest:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        files = dict(zip(names, pool.map(record_of, [folder / name for name in names]), strict=True))
    decoder = model.decoder
    return Manifest(
        family=model.family,
        precision="fp32",
        decoder=Decoder(decoder.dims, decoder.max_positions, model.eos_token_ids),
        front_end=model.front_end,
        prompt=model.prompt,
        graphs=Graphs(ENCODER_FILE, DECODE_FILE, {p.name: prefill_file(p.name) for p in profiles}),
        profiles={profile.name: profile for profile in profiles},
        weights=Weights(store.description, _places(model.encoder, store), _places(decoder, store)),
        versions={name: version(name) for name in VERSIONS_OF},
        files=files,
    )


def _places(spec: object, store: WeightStore) -> dict[str, WeightPlace]:
    """Where the runtime finds each initializer of a graph that was built from `spec`."""
    places = {tensor.name: (store.place(tensor), tensor.shape) for tensor in tensors_of(spec)}
    return {name: WeightPlace(place.location, place.offset, shape) for name, (place, shape) in places.items()}
