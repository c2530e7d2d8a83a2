"""What a prefill leaves in the KV cache of a layer: all of its rows, or those that each head keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ...plugins.body import Value
from ...profiles import signature as sig
from ...profiles.profile import Profile
from .layers import DecoderLayers
from .lowering.lowering import Cut
from .positions import Angles
from .reduction import REDUCERS, Attended, SiteValues


@dataclass(frozen=True)
class KeyValue:
    """Keys and values of a layer, in KV layout."""

    key: Value  # rotated
    value: Value
    cached_key: Value  # the key as the cache takes it, at the positions that remain


class Cache(Protocol):
    """The cache of one layer; it writes the two outputs of the graph."""

    needs_attention: bool  # to know what it keeps

    def lay_out(self, key: Value, rotated: Value, value: Value) -> KeyValue:
        """What the attention reads; all three are rows (rows, kv_heads * head_dim)."""

    def keep(self, kv: KeyValue, attended: Attended) -> None:
        """Write what the attention decides on."""


@dataclass(frozen=True)
class WholeCache:
    """Every row is kept: keys and values are outputs as they are."""

    layers: DecoderLayers
    layer: int
    needs_attention = False

    def lay_out(self, key: Value, rotated: Value, value: Value) -> KeyValue:
        """Write both."""
        i, name = self.layer, f"/layers.{self.layer}/attn"
        rotated = self._kept(rotated, f"{name}/prefix_key", sig.prefix_key(i))
        value = self._kept(value, f"{name}/prefix_value", sig.prefix_value(i))
        return KeyValue(key=rotated, value=value, cached_key=rotated)

    def _kept(self, x: Value, name: str, output: str) -> Value:
        """In KV layout, for the attention: what is written, or what it is narrowed from."""
        if not self.layers.narrows_prefix:
            return self.layers.cache_layout(x, name, output)
        laid_out = self.layers.cache_layout(x, name)
        self.layers.write_prefix(laid_out, output)
        return laid_out

    def keep(self, kv: KeyValue, attended: Attended) -> None:
        """Nothing is left to write."""


@dataclass(frozen=True)
class EvictedCache:
    """Each head keeps rows of its own, moved so that the row after them stands at the length of the cache."""

    layers: DecoderLayers
    layer: int
    profile: Profile
    cut: Cut  # the same in every layer: each keeps the same share of the same span
    angles: Angles  # of the whole prompt, moved
    needs_attention = True

    def lay_out(self, key: Value, rotated: Value, value: Value) -> KeyValue:
        """The attention reads the rows where they stand; the cache takes the keys moved."""
        layers, name = self.layers, f"/layers.{self.layer}/attn"
        moved = layers.rotary.rotate(key, layers.dims.num_kv_heads, self.angles, f"{name}/moved_k")
        return KeyValue(
            key=layers.cache_layout(rotated, f"{name}/key"),
            value=layers.cache_layout(value, f"{name}/value"),
            cached_key=layers.cache_layout(moved, f"{name}/moved_key"),
        )

    def keep(self, kv: KeyValue, attended: Attended) -> None:
        """Evict."""
        layers, i = self.layers, self.layer
        site = SiteValues(layers.g, layers.lowering, self.profile, layers.dims, i, None, attended, self.cut)
        kept = [sig.prefix_key(i), sig.prefix_value(i)]
        outputs = [f"{site.name}/{name}" for name in kept] if layers.narrows_prefix else kept
        REDUCERS[self.profile.method].choose(site).apply(site.name, kv.cached_key, kv.value, outputs=outputs)
        if layers.narrows_prefix:
            for whole, narrow in zip(outputs, kept, strict=True):
                layers.write_prefix(whole, narrow)
