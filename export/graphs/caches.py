"""What a prefill leaves in the KV cache of a layer: all of its rows, or those that each head keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ...plugins.body import FLOAT, Value
from ...profiles import signature as sig
from ...profiles.kv_layout import ROWS_AXIS
from ...profiles.profile import Profile
from .layers import DecoderLayers
from .lowering.lowering import Cut
from .positions import Angles
from .reduction import REDUCERS, Attended, Choice, SiteValues


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
        choice = REDUCERS[self.profile.method].choose(site)
        choice.apply(site.name, kv.cached_key, kv.value, outputs=outputs)
        if layers.spec.row_maps:
            self._write_sources(choice, kv.cached_key)
        if layers.narrows_prefix:
            for whole, narrow in zip(outputs, kept, strict=True):
                layers.write_prefix(whole, narrow)

    def _write_sources(self, choice: Choice, key: Value) -> None:
        """The same op on the place of each row, as wide as a key, of which one column is as good as all."""
        g, name, output = self.layers.g, f"{choice.site.name}/sources", sig.row_sources(self.layer)
        count = g.op("Squeeze", g.dim(key, ROWS_AXIS))
        places = g.op("Cast", g.op("Range", g.const(0), count, g.const(1)), to=FLOAT)
        wide = g.op("Expand", g.reshape(places, 1, -1, 1), g.op("Shape", key))
        kept = choice.apply(name, wide, wide, outputs=[f"{name}.0", f"{name}.1"])
        g.op("Gather", kept, g.const(0), axis=2, name=output, outputs=[output])
