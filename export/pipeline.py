"""From a checkpoint to an artifact: the table of contents of a build."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import onnx

from ..profiles.errors import EngineError, OutputError, ProfileError
from ..profiles.flops import ResolvedProfile, resolve
from ..profiles.profile import Profile
from ..runtime.artifact import TOKENIZER, record_of
from ..runtime.engine_manifest import prefill_engine
from ..runtime.manifest import FILE_NAME, Decoder, Graphs, Manifest, WeightPlace, Weights
from .build_options import ENGINES, WEIGHT_MODES, BuildOptions
from .checkpoint import CONFIG, Checkpoint
from .decoder import build_decode, build_prefill
from .encoder import build_encoder
from .engine import Progress
from .engines import build_engines
from .engines import check as check_engines
from .families.family import load_model
from .lowering.lowering import Lowering
from .lowering.onnxruntime import OnnxRuntimeLowering
from .model_spec import SpeechModelSpec, tensors_of
from .tokenizer import tokenizer_file
from .weights import WeightStore, weight_store

__all__ = [
    "BuildOptions",
    "audio_rows",
    "build",
    "check_graph",
    "longest_audio",
    "prefill_file",
    "resolve_for",
    "temporary_folder",
    "write_graphs",
]

ENCODER_FILE = "encoder.onnx"
DECODE_FILE = "decode.onnx"
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
    _check(output, options)
    report("read checkpoint")
    model = load_model(source := Checkpoint(checkpoint))
    profiles = [resolve_for(profile, model) for profile in options.profiles]
    longest = longest_audio(model, options.engines.max_audio_seconds) if options.engines else 0
    if options.engines:
        check_engines(model, longest, options.engines)
    store = weight_store(tensors_of((model.encoder, model.decoder)), options.weights)
    with temporary_folder(output, options.force) as folder:
        report("build graphs")
        names = write_graphs(folder, model, profiles, store, OnnxRuntimeLowering())
        report(f"write weights ({store.description})")
        names += store.write(folder)
        names += _copy_config(source, folder)
        engines = None
        if options.engines:
            engines, plans = build_engines(
                folder, model, profiles, options.engines, write_graphs, longest, report, progress
            )
            names += plans
        report("hash files")
        manifest = replace(_manifest(folder, model, profiles, store, names), engines=engines)
        (folder / FILE_NAME).write_text(manifest.to_json(), "utf-8")
    return manifest


def resolve_for(profile: Profile, model: SpeechModelSpec) -> ResolvedProfile:
    """Fit a profile to a model: its reference audio length becomes rows of this model."""
    rows = audio_rows(model, float(profile.reference_audio_seconds)) + int(profile.include_audio_bos)
    return resolve(profile, model.decoder.dims, rows)


def audio_rows(model: SpeechModelSpec, seconds: float) -> int:
    """Audio frames that the decoder gets for so many seconds, in whole windows and a rest."""
    front_end = model.front_end
    return front_end.audio_frames(round(seconds * front_end.log_mel.sample_rate))


def longest_audio(model: SpeechModelSpec, seconds: float) -> int:
    """Rows of `audio_embeds` for so many seconds: the frames, and what the encoder sets around them."""
    return audio_rows(model, seconds) + model.front_end.bos_rows + model.front_end.eos_rows


def write_graphs(
    folder: Path,
    model: SpeechModelSpec,
    profiles: Sequence[ResolvedProfile],
    store: WeightStore,
    lowering: Lowering,
) -> list[str]:
    """Write the encoder, the decode step and one prefill a profile; return their file names."""
    _check_methods(profiles, lowering)
    graphs = {
        ENCODER_FILE: build_encoder(model.encoder, model.decoder.dims, store, lowering),
        DECODE_FILE: build_decode(model.decoder, store, lowering),
    }
    for resolved in profiles:
        graphs[prefill_file(resolved.name)] = build_prefill(
            model.decoder, model.front_end, store, lowering, resolved
        )
    for name, graph in graphs.items():
        (folder / name).write_bytes(graph.SerializeToString())
    return list(graphs)


def _check_methods(profiles: Sequence[ResolvedProfile], lowering: Lowering) -> None:
    """Refuse methods that the backend cannot lower."""
    if not lowering.takes_data_dependent_lengths:
        _refuse(
            [profile for profile in profiles if not profile.has_static_lengths],
            f"how many rows are left depends on the data, and {lowering.name} must know every length from "
            "the shapes of the inputs",
        )
    if not lowering.evicts_caches:
        _refuse(
            [profile for profile in profiles if profile.cache_only and profile.merging_layers],
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


def check_graph(path: Path) -> None:
    """onnx.checker with full shape inference, weights included."""
    onnx.checker.check_model(str(path), full_check=True)


def _check(output: Path, options: BuildOptions) -> None:
    names = [profile.name for profile in options.profiles]
    if not names:
        raise ProfileError("no profile is given; the unreduced model is: --profile full")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ProfileError(f"profile {', '.join(twice)} is given twice; names must differ within an artifact")
    if options.engines and options.engines.engine not in ENGINES:
        raise EngineError(f"engine {options.engines.engine!r} is unknown; choose {', '.join(ENGINES)}")
    if options.weights not in WEIGHT_MODES:
        raise OutputError(f"weights {options.weights!r} is unknown; choose {', '.join(WEIGHT_MODES)}")
    if output.exists() and not options.force:
        raise OutputError(f"output {output} exists; give another folder, or --force to replace it")
    if output.exists() and not (output / FILE_NAME).is_file():
        raise OutputError(f"output {output} is not an artifact; --force replaces artifacts only")
    nearest = next(parent for parent in output.absolute().parents if parent.exists())
    if not nearest.is_dir():
        raise OutputError(f"output {output}: {nearest} is a file; choose another folder")


@contextmanager
def temporary_folder(output: Path, force: bool) -> Iterator[Path]:
    """A folder beside `output` that takes its name on success and vanishes on failure."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    except OSError as error:
        raise OutputError(f"output {output}: {error.strerror}; choose a folder that can be written") from None
    try:
        yield folder
        folder.chmod(0o755)
        if force and output.exists():
            shutil.rmtree(output)
        folder.rename(output)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(f"output {output}: the disk is full; free some space and build again") from None
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
