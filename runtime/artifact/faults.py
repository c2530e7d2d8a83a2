"""What can be wrong with a manifest whose fields have their types: ranges, and what one part says of another.

A manifest that was damaged does not match its digest. What is looked for here was written by another program,
or by hand: none of it may fail later, far from its cause, or name a file outside of the artifact.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from itertools import pairwise
from math import prod
from pathlib import PurePosixPath

from ...profiles.errors import ProfileError
from ...profiles.faults import at, count_fault, shown
from ...profiles.flops import ResolvedProfile
from ...profiles.schedule import layer_ratios
from ..decoding.options import SearchOptions
from .engines import (
    DECODE,
    ENCODER,
    PROMPT_ADAPTER,
    WAVE_ENCODER,
    EngineRecord,
    Engines,
    Shape,
    prefill_engine,
)
from .manifest import (
    FILE_NAME,
    PREFIX_TYPES,
    Decoder,
    FileRecord,
    FoldedAdapter,
    Graphs,
    Manifest,
    WeightPlace,
    Weights,
)
from .prompt import Prompt

ITEM_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
"""Precision that graphs compute in -> bytes of one number."""

STORED_BYTES = {**ITEM_BYTES, "int8": 1, "uint8": 1}
"""The same of stored tensors."""

QUANTIZED = ("int8", "int4")

HEADER_BYTES = 8  # of a weight file, at least
ORIGINS = ("linked", "copied", "converted")
PRODUCTS = ("tensorrt_rtx", "tensorrt")
HASH = re.compile("[0-9a-f]{64}")
LARGEST_DIMS = {
    "num_layers": 1000,
    "hidden_size": 2**17,
    "num_heads": 2**14,
    "num_kv_heads": 2**14,
    "head_dim": 2**14,
    "intermediate_size": 2**20,
    "vocab_size": 2**24,
}
LARGEST_POSITIONS = 2**24
LARGEST = 2**31 - 1  # of sizes that have no limit of their own
LARGEST_FILE = 2**60  # bytes
LONGEST_NAME, LONGEST_PATH = 255, 1000  # of a file: bytes that every system takes
MOST_AXES = 8  # of a tensor


def manifest_faults(manifest: Manifest) -> Iterator[str]:
    """Every fault, with its place in the JSON."""
    yield from _decoder_faults(manifest)
    if manifest.prompt:
        yield from _prompt_faults(manifest.prompt, manifest.decoder)
    yield from _tower_faults(manifest)
    yield from _generation_faults(manifest.generation, manifest.decoder.dims.vocab_size)
    for part in ("family", "profiles", "graphs"):
        if not getattr(manifest, part):
            yield f"{part} is empty"
    for place, text in {"family": manifest.family, **_named("versions", manifest.versions)}.items():
        yield from _text_fault(place, text)
    for name, resolved in manifest.profiles.items():
        yield from _profile_faults(at("profiles", name), name, resolved, manifest.decoder.dims.num_layers)
    for target, graphs in manifest.graphs.items():
        yield from _graphs_faults(at("graphs", target), graphs, manifest)
    for name, weights in manifest.weights.items():
        yield from _weights_faults(at("weights", name), name, weights, manifest)
    yield from _overlap_faults(manifest)
    yield from _names_faults(manifest.files)
    for name, record in manifest.files.items():
        yield from _file_faults(at("files", name), record)
    for i, adapter in enumerate(manifest.adapters):
        yield from _adapter_faults(f"adapters[{i}]", adapter)
    if manifest.engines:
        yield from _engines_faults(manifest.engines, manifest)


def _decoder_faults(manifest: Manifest) -> Iterator[str]:
    decoder, dims = manifest.decoder, manifest.decoder.dims
    for name, most in LARGEST_DIMS.items():
        yield from count_fault(f"decoder.dims.{name}", getattr(dims, name), 1, most)
    if dims.num_kv_heads > 0 and dims.num_heads % dims.num_kv_heads:
        yield f"decoder.dims: {dims.num_heads} heads cannot share {dims.num_kv_heads} KV heads"
    yield from count_fault("decoder.max_positions", decoder.max_positions, 1, LARGEST_POSITIONS)
    if decoder.trained_positions is not None:
        yield from count_fault("decoder.trained_positions", decoder.trained_positions, 1, LARGEST_POSITIONS)
    if context := decoder.long_context:
        place, least = "decoder.long_context.trained_rows", context.least_trained_rows
        yield from count_fault(place, context.trained_rows, least, LARGEST_POSITIONS)
    if decoder.folded_prompt:
        yield from _ids_faults("decoder.folded_prompt", decoder.folded_prompt.adapter_ids, dims.vocab_size)
    if manifest.front_end.rows_around >= decoder.max_positions:
        yield (
            f"front_end: {manifest.front_end.rows_around} rows around the audio leave it no room in "
            f"{decoder.max_positions} positions"
        )
    yield from _ids_faults("decoder.eos_token_ids", decoder.eos_token_ids, dims.vocab_size)


def _adapter_faults(place: str, adapter: FoldedAdapter) -> Iterator[str]:
    yield from _text_fault(f"{place}.name", adapter.name)
    if not HASH.fullmatch(adapter.blake3):
        yield f"{place}.blake3 is {shown(adapter.blake3)}: 64 hexadecimal digits are expected"
    for rank in adapter.ranks:
        yield from count_fault(f"{place}.ranks", rank, 1, LARGEST)
    yield from count_fault(f"{place}.changed", adapter.changed, 1, LARGEST)


def _tower_faults(manifest: Manifest) -> Iterator[str]:
    tower = manifest.tower
    for name, encoder in (("window", tower.window), ("wave", tower.wave)):
        if encoder:
            for field in ("hidden_size", "num_heads", "intermediate_size"):
                size, most = getattr(encoder, field), LARGEST_DIMS[field]
                yield from count_fault(f"tower.{name}.{field}", size, 1, most)
            most = LARGEST_DIMS["hidden_size"]
            if encoder.attention_rows is not None:
                yield from count_fault(f"tower.{name}.attention_rows", encoder.attention_rows, 1, most)
            yield from count_fault(f"tower.{name}.image_channels", encoder.image_channels, 0, most)
            if encoder.numbers_per_row is not None:
                yield from count_fault(f"tower.{name}.numbers_per_row", encoder.numbers_per_row, 1, LARGEST)
            yield from count_fault(f"tower.{name}.fixed_numbers", encoder.fixed_numbers, 0, LARGEST)
    yield from count_fault("tower.wave_channels", tower.wave_channels, 0, LARGEST_DIMS["hidden_size"])
    if (tower.wave is None) != (not tower.wave_channels):
        yield f"tower.wave_channels is {tower.wave_channels}, which does not fit tower.wave"
    if (tower.wave is None) != (manifest.front_end.wave is None):
        yield "tower.wave and front_end.wave: a tower has the sizes of both of its encoders, or of one"


def _generation_faults(generation: SearchOptions, vocab_size: int) -> Iterator[str]:
    for name in ("eos_token_ids", "suppress_tokens", "begin_suppress_tokens"):
        yield from _ids_faults(f"generation.{name}", getattr(generation, name) or (), vocab_size)


def _ids_faults(place: str, ids: Iterable[int], vocab_size: int) -> Iterator[str]:
    if outside := [i for i in ids if not 0 <= i < vocab_size]:
        yield f"{place}: {shown(outside[0])} is not one of {vocab_size} tokens"


def _prompt_faults(prompt: Prompt, decoder: Decoder) -> Iterator[str]:
    """What the record cannot know by itself."""
    first_after, vocab_size = prompt.first_id_after_audio, decoder.dims.vocab_size
    if (prompt.adapter_template is not None) != (decoder.has_prompt_adapter or bool(decoder.folded_prompt)):
        yield (f"prompt.adapter_template is {shown(prompt.adapter_template)}, which does not fit the decoder")
    yield from _ids_faults("prompt.first_ids", prompt.first_ids, vocab_size)
    yield from _ids_faults("prompt.audio_token_ids", prompt.audio_token_ids, LARGEST_DIMS["vocab_size"])
    if first_after is not None:
        yield from _ids_faults("prompt.first_id_after_audio", (first_after,), vocab_size)


def _profile_faults(place: str, name: str, resolved: ResolvedProfile, num_layers: int) -> Iterator[str]:
    if name != resolved.name:
        yield f"{place}.profile.name is {shown(resolved.name)}, not {shown(name)}"
    if resolved.profile.ratio not in (None, resolved.ratio):
        yield f"{place}.ratio is {resolved.ratio}, not {resolved.profile.ratio}"
    if len(resolved.ratios) != num_layers:
        yield f"{place}.ratios has {len(resolved.ratios)} entries, not one for each of {num_layers} layers"
        return
    try:
        expected = _ratios(resolved, num_layers)
    except ProfileError as error:
        yield f"{place}: {error}"
        return
    if resolved.ratios != expected:
        pairs = zip(resolved.ratios, expected, strict=True)
        layer = next(layer for layer, (found, wanted) in enumerate(pairs) if found != wanted)
        yield f"{place}.ratios[{layer}] is {resolved.ratios[layer]}, not {expected[layer]}"


def _ratios(resolved: ResolvedProfile, num_layers: int) -> tuple[Fraction, ...]:
    """The shares that the profile asks for, as `flops.resolve` spreads them."""
    profile = resolved.profile
    if not profile.traits.reduces:
        return (Fraction(0),) * num_layers
    return layer_ratios(profile.schedule, profile.start_layer, resolved.ratio, num_layers)


def _optional_faults(place: str, file: str | None, is_asked_for: bool, manifest: Manifest) -> Iterator[str]:
    """The file of a graph that is there where some record asks for it, and nowhere else."""
    if (file is not None) != is_asked_for:
        yield f"{place} is {shown(file)}, which does not fit the rest of the manifest"
    if file is not None:
        yield from _listed_fault(place, file, manifest)


def _graphs_faults(place: str, graphs: Graphs, manifest: Manifest) -> Iterator[str]:
    yield from _known_fault(f"{place}.precision", graphs.precision, ITEM_BYTES)
    if graphs.quantized is not None:
        yield from _known_fault(f"{place}.quantized", graphs.quantized, QUANTIZED)
    if graphs.kv_precision is not None:
        yield from _known_fault(f"{place}.kv_precision", graphs.kv_precision, PREFIX_TYPES)
    if graphs.weights not in manifest.weights:
        yield f"{place}.weights is {shown(graphs.weights)}, and there is no such table of weights"
    yield from _listed_fault(f"{place}.encoder", graphs.encoder, manifest)
    yield from _listed_fault(f"{place}.decode", graphs.decode, manifest)
    optional = {
        "wave_encoder": bool(manifest.front_end.wave),
        "prompt_adapter": manifest.decoder.has_prompt_adapter,
    }
    for name, is_asked_for in optional.items():
        yield from _optional_faults(f"{place}.{name}", getattr(graphs, name), is_asked_for, manifest)
    for profile, file in graphs.prefill.items():
        yield from _listed_fault(at(f"{place}.prefill", profile), file, manifest)
    yield from _keys_fault(f"{place}.prefill", graphs.prefill, manifest.profiles)


def _weights_faults(place: str, name: str, weights: Weights, manifest: Manifest) -> Iterator[str]:
    yield from _known_fault(f"{place}.origin", weights.origin, ORIGINS)
    for part, table in (("encoder", weights.encoder), ("decoder", weights.decoder)):
        for tensor, tensor_place in table.items():
            yield from _tensor_faults(at(f"{place}.{part}", tensor), tensor_place, manifest)


def _tensor_faults(place: str, tensor: WeightPlace, manifest: Manifest) -> Iterator[str]:
    yield from _listed_fault(f"{place}.file", tensor.file, manifest)
    yield from _known_fault(f"{place}.precision", tensor.precision, STORED_BYTES)
    if len(tensor.shape) > MOST_AXES or not all(1 <= size <= LARGEST for size in tensor.shape):
        yield f"{place}.shape is {shown(list(tensor.shape))}: it is no shape of a tensor"
    elif tensor.file in manifest.files:
        end, size = tensor.offset + _num_bytes(tensor), manifest.files[tensor.file].size
        if not HEADER_BYTES <= tensor.offset <= end <= size:
            yield f"{place} is bytes {shown(tensor.offset)} to {shown(end)} of a file of {size}"


def _num_bytes(tensor: WeightPlace) -> int:
    """In its file; the least that it could be where its precision is unknown."""
    return prod(tensor.shape) * STORED_BYTES.get(tensor.precision, 1)


def _overlap_faults(manifest: Manifest) -> Iterator[str]:
    """Tensors that share a part of their bytes; all of them may be shared, as those of a tied head are."""
    found = {
        (place.file, place.offset, place.offset + _num_bytes(place)): tensor
        for weights in manifest.weights.values()
        for table in (weights.encoder, weights.decoder)
        for tensor, place in table.items()
    }
    for ((file, _, end), one), ((next_file, start, _), other) in pairwise(sorted(found.items())):
        if file == next_file and start < end:
            yield f"weights: {shown(one)} and {shown(other)} overlap in {shown(file)}"


def _names_faults(files: Mapping[str, FileRecord]) -> Iterator[str]:
    """Names that leave the folder, or that not every file system has."""
    folded: dict[str, str] = {}
    for name in files:
        if not _is_inside(name):
            yield f"files: {shown(name)} lies outside the artifact, or is no name that every system has"
        elif (other := folded.setdefault(name.casefold(), name)) != name:
            yield f"files: {shown(other)} and {shown(name)} are one file where case does not count"


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    is_plain = name.isprintable() and "\\" not in name and str(path) == name
    is_plain &= all(len(part.encode()) <= LONGEST_NAME for part in path.parts) and len(name) <= LONGEST_PATH
    return is_plain and not path.is_absolute() and not {"..", "."} & {*path.parts, name} and name != FILE_NAME


def _file_faults(place: str, record: FileRecord) -> Iterator[str]:
    yield from count_fault(f"{place}.size", record.size, 0, LARGEST_FILE)
    yield from _hash_fault(f"{place}.blake3", record.blake3)


def _engines_faults(engines: Engines, manifest: Manifest) -> Iterator[str]:
    machine = engines.machine
    texts = {"machine.version": machine.version, "plugin_abi": engines.plugin_abi}
    for name, text in {**texts, "verified_on": engines.verified_on or "none"}.items():
        yield from _text_fault(f"engines.{name}", text)
    yield from _known_fault("engines.machine.product", machine.product, PRODUCTS)
    yield from count_fault("engines.machine.sm", machine.sm, 1, LARGEST)
    yield from _known_fault("engines.precision", engines.precision, ITEM_BYTES)
    for name in ("max_beams", "max_audio_rows", "max_text_rows", "max_new_tokens"):
        yield from count_fault(f"engines.{name}", getattr(engines, name), 1, LARGEST)
    if not engines.max_audio_seconds > 0:
        yield f"engines.max_audio_seconds is {engines.max_audio_seconds}: it must be above 0"
    if engines.plugin_library is not None:
        yield from _listed_fault("engines.plugin_library", engines.plugin_library, manifest)
    optional = {
        WAVE_ENCODER: manifest.front_end.wave is not None,
        PROMPT_ADAPTER: manifest.decoder.has_prompt_adapter,
    }
    shared = ENCODER, DECODE, *(name for name, is_there in optional.items() if is_there)
    wanted = *shared, *map(prefill_engine, manifest.profiles)
    yield from _keys_fault("engines.plans", engines.plans, wanted)
    for name, plan in engines.plans.items():
        yield from _plan_faults(at("engines.plans", name), plan, manifest)
        layers = 0 if name in shared else manifest.decoder.dims.num_layers
        if (found := len(plan.layer_ratios)) != layers:
            yield f"{at('engines.plans', name)}.layer_ratios has {found} entries, not {layers}"


def _plan_faults(place: str, plan: EngineRecord, manifest: Manifest) -> Iterator[str]:
    yield from _listed_fault(f"{place}.file", plan.file, manifest)
    yield from _hash_fault(f"{place}.graph_sha256", plan.graph_sha256)
    if any(ratio >= 1 for ratio in plan.layer_ratios):
        yield f"{place}.layer_ratios has a share of 1 or more: no layer removes all of its rows"
    if not plan.seconds >= 0:
        yield f"{place}.seconds is {plan.seconds}: it must not be negative"
    if plan.peak_bytes is not None:
        yield from count_fault(f"{place}.peak_bytes", plan.peak_bytes, 0, LARGEST_FILE)
    for layer, count in plan.plugin_layers.items():
        yield from count_fault(at(f"{place}.plugin_layers", layer), count, 0, LARGEST)
    for form, count in plan.quantized.items():
        yield from _known_fault(f"{place}.quantized", form, QUANTIZED)
        yield from count_fault(at(f"{place}.quantized", form), count, 1, LARGEST)
    for tensor, shapes in plan.shapes.items():
        if not _are_ordered(shapes):
            yield f"{at(f'{place}.shapes', tensor)} is {shown(shapes)}: least, usual and largest do not rise"


def _are_ordered(shapes: tuple[Shape, Shape, Shape]) -> bool:
    """Whether three shapes have the same axes, none of which shrinks from one to the next."""
    if len({len(shape) for shape in shapes}) > 1 or len(shapes[0]) > MOST_AXES:
        return False
    return all(0 <= low <= opt <= high <= LARGEST for low, opt, high in zip(*shapes, strict=True))


def _named(place: str, texts: Mapping[str, str]) -> dict[str, str]:
    return {at(place, name): text for name, text in texts.items()}


def _text_fault(place: str, text: str) -> Iterator[str]:
    """A fault for what a terminal could not show as it is."""
    if not text or not text.isprintable():
        yield f"{place} is {shown(text)}: it is no text in one line"


def _known_fault(place: str, value: str, known: Iterable[str]) -> Iterator[str]:
    if value not in known:
        yield f"{place} is {shown(value)}; known are {', '.join(known)}"


def _listed_fault(place: str, name: str, manifest: Manifest) -> Iterator[str]:
    if name not in manifest.files:
        yield f"{place} is {shown(name)}, which is not among the files"


def _keys_fault(place: str, found: Iterable[str], wanted: Iterable[str]) -> Iterator[str]:
    """A fault where there is not one entry for each of the names."""
    if missing := sorted({*wanted} - {*found}):
        yield f"{place} has none for {', '.join(map(shown, missing))}"
    if more := sorted({*found} - {*wanted}):
        yield f"{place} has one for {', '.join(map(shown, more))}, which is unknown"


def _hash_fault(place: str, value: str) -> Iterator[str]:
    if not HASH.fullmatch(value):
        yield f"{place} is {shown(value)}: it is no SHA-256 of 64 hexadecimal digits"
