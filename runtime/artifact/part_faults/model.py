"""Faults of what a manifest says of the model: its decoder, audio tower, search, prompt and profiles."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from ....profiles.errors import ProfileError
from ....profiles.faults import count_fault, shown
from ....profiles.flops import ResolvedProfile
from ....profiles.schedule import layer_ratios
from ....profiles.signature import word_head_faults
from ...decoding.options import SearchOptions
from ..manifest import Decoder, FoldedAdapter, Manifest
from ..prompt import Prompt
from .fields import HASH, LARGEST, ids_faults, text_fault

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


def decoder_faults(manifest: Manifest) -> Iterator[str]:
    """Those of the sizes, positions and end tokens of the decoder."""
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
        yield from ids_faults("decoder.folded_prompt", decoder.folded_prompt.adapter_ids, dims.vocab_size)
    if decoder.word_heads:
        yield from (f"decoder.{fault}" for fault in word_head_faults(decoder.word_heads, dims))
        if not decoder.row_maps:
            yield "decoder.word_heads: without row_maps nothing says which seconds their rows stand for"
    if manifest.front_end.rows_around >= decoder.max_positions:
        yield (
            f"front_end: {manifest.front_end.rows_around} rows around the audio leave it no room in "
            f"{decoder.max_positions} positions"
        )
    yield from ids_faults("decoder.eos_token_ids", decoder.eos_token_ids, dims.vocab_size)


def tower_faults(manifest: Manifest) -> Iterator[str]:
    """Those of the sizes of the encoders, which are those that the front end names."""
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


def adapter_faults(place: str, adapter: FoldedAdapter) -> Iterator[str]:
    """Of an adapter that is part of the weights."""
    yield from text_fault(f"{place}.name", adapter.name)
    if not HASH.fullmatch(adapter.blake3):
        yield f"{place}.blake3 is {shown(adapter.blake3)}: 64 hexadecimal digits are expected"
    for rank in adapter.ranks:
        yield from count_fault(f"{place}.ranks", rank, 1, LARGEST)
    yield from count_fault(f"{place}.changed", adapter.changed, 1, LARGEST)


def generation_faults(generation: SearchOptions, vocab_size: int) -> Iterator[str]:
    """Those of the tokens in the search of the artifact; its record checks the rest."""
    for name in ("eos_token_ids", "suppress_tokens", "begin_suppress_tokens"):
        yield from ids_faults(f"generation.{name}", getattr(generation, name) or (), vocab_size)


def prompt_faults(prompt: Prompt, decoder: Decoder) -> Iterator[str]:
    """What the record cannot know by itself."""
    first_after, vocab_size = prompt.first_id_after_audio, decoder.dims.vocab_size
    if (prompt.adapter_template is not None) != (decoder.has_prompt_adapter or bool(decoder.folded_prompt)):
        yield (f"prompt.adapter_template is {shown(prompt.adapter_template)}, which does not fit the decoder")
    yield from ids_faults("prompt.first_ids", prompt.first_ids, vocab_size)
    yield from ids_faults("prompt.audio_token_ids", prompt.audio_token_ids, LARGEST_DIMS["vocab_size"])
    if first_after is not None:
        yield from ids_faults("prompt.first_id_after_audio", (first_after,), vocab_size)


def profile_faults(place: str, name: str, resolved: ResolvedProfile, num_layers: int) -> Iterator[str]:
    """Those of one resolved profile: its name, and the share that each layer removes."""
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
