"""The manifest of a build: what was written into its folder, and all that a runtime must know of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..profiles.flops import ResolvedProfile
from ..runtime.artifact.artifact import record_of
from ..runtime.artifact.engines import Engines
from ..runtime.artifact.manifest import Decoder, FileRecord, Graphs, Manifest, WeightPlace, Weights
from .checkpoint.hashed_file import Tick, counted
from .checkpoint.weights import WeightStore
from .model.spec import SpeechModelSpec, tensors_of

VERSIONS_OF = ("fastadasp-export", "onnx", "onnxruntime", "onnxruntime-gpu", "numpy")
"""As far as they are installed: the two of ONNX Runtime exclude each other."""


def manifest_of(
    folder: Path,
    known: Mapping[str, FileRecord | None],
    model: SpeechModelSpec,
    profiles: Sequence[ResolvedProfile],
    graphs: Mapping[str, Graphs],
    stores: Mapping[str, WeightStore],
    engines: Engines | None,
    tick: Tick = lambda *_: None,
) -> Manifest:
    """Hash every file that was not hashed while it was written, and describe them.

    Args:
        folder: the artifact.
        known: its files, with the records that there are already.
        model: what was built.
        profiles: in the order asked for.
        graphs: by target.
        stores: where the weights are, by the names that `graphs` give.
        engines: of TensorRT, if there are any.
        tick: told how many bytes are hashed.
    """
    left = {name: folder / name for name, record in known.items() if record is None}
    told = counted(tick, sum(path.stat().st_size for path in left.values()))
    files = {name: record or record_of(left[name], told) for name, record in known.items()}
    decoder = model.decoder
    return Manifest(
        family=model.family,
        decoder=Decoder(
            decoder.dims,
            decoder.max_positions,
            model.eos_token_ids,
            has_prompt_adapter=decoder.prompt_adapter is not None,
            folded_prompt=decoder.folded_prompt,
            long_context=decoder.long_context,
            trained_positions=decoder.trained_positions,
            row_maps=decoder.row_maps,
            word_heads=decoder.word_heads,
        ),
        front_end=model.front_end,
        tower=model.tower_dims,
        prompt=model.prompt,
        generation=model.generation,
        adapters=model.adapters,
        graphs=graphs,
        profiles={profile.name: profile for profile in profiles},
        weights={name: _weights(model, store) for name, store in stores.items()},
        versions=dict(_versions()),
        files=files,
        engines=engines,
    )


def _versions() -> Iterator[tuple[str, str]]:
    for name in VERSIONS_OF:
        with suppress(PackageNotFoundError):
            yield name, version(name)


def _weights(model: SpeechModelSpec, store: WeightStore) -> Weights:
    return Weights(store.description, _places(model.tower, store), _places(model.decoder, store))


def _places(spec: object, store: WeightStore) -> dict[str, WeightPlace]:
    """Where the runtime finds each initializer of a graph that was built from `spec`."""
    places = {tensor.name: (store.place(tensor), tensor.shape) for tensor in tensors_of(spec)}
    return {
        name: WeightPlace(place.location, place.offset, shape, place.stored.name)
        for name, (place, shape) in places.items()
    }
