"""The encoder graph: one window of log-mel frames to rows of the decoder, or of what a wave encoder takes.

Only the rows that carry audio are computed, where the rows of a padded window attend to nothing else and are
dropped later: leaving them out changes no number, and a short clip costs what it is long. Where a model
attends to the silence of a full window, too, rows are dropped after the layers. Where rows attend to those of
their own block alone, a window may hold many blocks, which are a batch.
"""

from __future__ import annotations

import onnx

from ...plugins.body import Value
from ...profiles.signature import AUDIO_EMBEDS, ENCODER_ROWS, encoder_signature
from ...runtime.audio.log_mel import LogMelConfig
from ..checkpoint.quantized import QuantizedRows
from ..checkpoint.weights import WeightStore
from ..model.spec import EncoderLayer, EncoderSpec, ImageStem, PooledHead, SpeechModelSpec, StackedHead
from .clip_encoders.build import build_clip_encoder
from .encoders.block_attention import append_block_attention, blocks_of
from .encoders.image_stem import image_rows
from .encoders.row_weights import append_row_weights
from .encoders.time_stem import chunk_rows, window_rows
from .graph import Graph, Rounding
from .heads import convolve, pool, project, stack
from .lowering.lowering import Lowering
from .positions import Rotary, prompt_positions


def build_encoder(
    model: SpeechModelSpec, store: WeightStore, lowering: Lowering, weighs_rows: bool = False
) -> onnx.ModelProto:
    """The encoder with its head, for any number of frames up to one window.

    With `weighs_rows` it also says how much attention its rows get, if `row_weights_fault` has found none.
    """
    spec, front_end = model.encoder, model.front_end
    if not isinstance(spec, EncoderSpec):
        return build_clip_encoder(spec, front_end, model.decoder.dims.hidden_size, store, lowering)
    assert isinstance(front_end.log_mel, LogMelConfig), "it takes windows"
    head = spec.head
    g = Graph("encoder", store, lowering)
    width = front_end.window_width(model.decoder.dims.hidden_size)
    signature = encoder_signature(spec.num_mel_bins, width, weighs_rows)
    for tensor in signature.inputs:
        g.input(tensor)
    x = _rows(g, spec, front_end.log_mel)
    attention = _Attention(g, lowering, spec, x)
    for i, layer in enumerate(spec.layers):
        x = _layer(g, attention, spec, layer, x, f"/encoder/layers.{i}")
    if weighs_rows:
        append_row_weights(g, attention.heads, front_end, *attention.last)
    if front_end.log_mel.full_windows:
        x = g.slice(x, g.ints(0), ENCODER_ROWS, 0)
    if isinstance(head, PooledHead):
        assert front_end.token_rule == "pooled", "this head pools whole groups of rows"
        x = pool(g, x, front_end.rows_per_token, spec.hidden_size)
        x = g.layer_norm(x, spec.final_norm, spec.norm_eps, "/encoder/final_norm")
        project(g, head, x)
    elif isinstance(head, StackedHead):
        assert front_end.token_rule == "pooled", "this head takes whole groups of rows"
        x = g.layer_norm(x, spec.final_norm, spec.norm_eps, "/encoder/final_norm")
        stack(g, head, x, front_end.rows_per_token, spec.hidden_size)
    else:
        x = g.layer_norm(x, spec.final_norm, spec.norm_eps, "/encoder/final_norm")
        convolve(g, head, front_end, x, "/encoder", outputs=[AUDIO_EMBEDS])
    for tensor in signature.outputs:
        g.output(tensor)
    return g.model((), lowering.domains)


def _rows(g: Graph, spec: EncoderSpec, log_mel: LogMelConfig) -> Value:
    """Log-mel frames to position-encoded rows (rows, hidden): those that carry audio, or a full window's."""
    positions = None if spec.positions is None else g.weight(spec.positions)
    if log_mel.chunk_frames:
        assert positions is not None, "rows of a chunk have positions in it"
        if isinstance(spec.stem, ImageStem):
            return image_rows(g, spec.stem, log_mel, positions)
        return chunk_rows(g, spec.stem, log_mel, positions)
    assert not isinstance(spec.stem, ImageStem), "such convolutions are over chunks"
    x = window_rows(g, spec.stem, log_mel)
    if not log_mel.full_windows:
        x = g.slice(x, g.ints(0), ENCODER_ROWS, 0)
        positions = positions and g.slice(positions, g.ints(0), ENCODER_ROWS, 0)
    return x if positions is None else g.op("Add", x, positions, name="/encoder/embed_positions")


class _Attention:
    """The attention of all layers of an encoder, over the rows `x`, (rows, hidden).

    `last` are queries and keys of the last layer so far, (rows, heads * head_dim).
    """

    last: tuple[Value, Value]

    def __init__(self, g: Graph, lowering: Lowering, spec: EncoderSpec, x: Value) -> None:
        self.g, self.lowering = g, lowering
        self.heads = spec.num_heads, spec.hidden_size // spec.num_heads
        self.blocks = blocks_of(g, x, spec.attention_rows) if spec.attention_rows else None
        self.rounds = isinstance(spec.layers[0].query.weight, QuantizedRows)
        self.rotary = None
        if spec.rotary:
            self.rotary = Rotary(g, self.heads[1], spec.rotary.theta, rotated=spec.rotary.rotated)
            self.angles = self.rotary.angles(prompt_positions(g, x), "/encoder/rope")

    def append(self, name: str, query: Value, key: Value, value: Value) -> Value:
        """Of one layer. All three are (rows, heads * head_dim), and so is the result."""
        g, (num_heads, head_dim) = self.g, self.heads
        if self.rotary:
            query, key = (
                self.rotary.rotate(x, num_heads, self.angles, f"{name}/{part}")
                for x, part in ((query, "rope_q"), (key, "rope_k"))
            )
        self.last = query, key
        if self.blocks:
            attended = append_block_attention(g, name, self.heads, self.blocks, query, key, value)
        else:
            attended = Value(self._full(name, query, key, value))
        return g.shaped(attended, (None, num_heads * head_dim))

    def _full(self, name: str, query: Value, key: Value, value: Value) -> str:
        """Over all rows. Where the products before it round rows, it may do so, too."""
        if self.rounds:
            return self.lowering.rounded_attention(self.g, name, self.heads, query, key, value)
        return self.lowering.full_attention(self.g, name, self.heads[0], query, key, value)


def _layer(
    g: Graph, attention: _Attention, spec: EncoderSpec, layer: EncoderLayer, x: Value, name: str
) -> Value:
    y = g.layer_norm(x, layer.attn_norm, spec.norm_eps, f"{name}/attn_norm")
    parts = {"q_proj": layer.query, "k_proj": layer.key, "v_proj": layer.value}
    q, k, v = (g.linear(y, linear, f"{name}/attn/{part}") for part, linear in parts.items())
    attended = attention.append(f"{name}/attn", q, k, v)
    y = g.linear(attended, layer.output, f"{name}/attn/out_proj", Rounding.FINE)
    x = g.op("Add", x, y, name=f"{name}/attn")
    y = g.layer_norm(x, layer.mlp_norm, spec.norm_eps, f"{name}/mlp_norm")
    y = g.op("Gelu", g.linear(y, layer.fc1, f"{name}/mlp/fc1"), name=f"{name}/mlp")
    y = g.linear(y, layer.fc2, f"{name}/mlp/fc2", Rounding.AFTER_GELU)
    return g.op("Add", x, y, name=f"{name}/mlp")
