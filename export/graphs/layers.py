"""The parts of a decoder layer that prefill and decode step share, and the scores after the last one."""

from __future__ import annotations

import numpy as np

from ...plugins.body import Value
from ...profiles import signature as sig
from ..checkpoint.derived import Weight
from ..model.spec import DecoderLayer, DecoderSpec, Linear
from .graph import DTYPES, Graph
from .lowering.lowering import Lowering
from .positions import LogN, Rotary


class DecoderLayers:
    """Appends layers to a graph; rows are (rows, width)."""

    def __init__(self, g: Graph, spec: DecoderSpec, lowering: Lowering) -> None:
        self.g, self.spec, self.dims, self.lowering = g, spec, spec.dims, lowering
        context = spec.long_context
        self.rotary = Rotary(
            g,
            spec.dims.head_dim,
            spec.rope_theta,
            interleaved=spec.rope_interleaved,
            sorts_pairs=lowering.sorts_pairs,
            grows=context is not None and context.dynamic_ntk,
        )
        self.log_n = LogN(g, context.trained_rows) if context and context.log_n else None

    def linear(self, x: Value, linear: Linear, name: str) -> Value:
        """y = x W^T + b for rows x, and what a LoRA adds: x A (B * s)."""
        g = self.g
        if linear.lora is None:
            return g.linear(x, linear, name)
        base = g.linear(x, linear, f"{name}/base")
        down = g.op("Gemm", x, g.weight(linear.lora.down), name=f"{name}/lora_A")
        up = g.op("Mul", g.weight(linear.lora.up), sig.LORA_SCALE, name=f"{name}/lora_B")
        return g.op("Gemm", down, up, base, name=name)

    def entering(self, rows: Value, name: str) -> Value:
        """Rows (rows, hidden_size) of text or audio as they enter the first layer."""
        return self._times(rows, self.spec.embedding_multiplier, name)

    def query(
        self, normed: Value, layer: DecoderLayer, name: str, log_n_factors: Value | None = None
    ) -> Value:
        """Query rows before their rotation, (rows, heads * head_dim), in the scale of the attention ops.

        The factors of log-n are (rows, 1), of a model that has them: no attention op knows of them.
        """
        query = self.linear(normed, layer.query, f"{name}/q_proj")
        query = self._normed_heads(query, self.dims.query_width, layer.query_norm, f"{name}/q_norm")
        query = self._times(query, self.spec.query_scale, f"{name}/q_scale")
        if self.log_n is None or log_n_factors is None:
            return query
        return self.log_n.scale(query, log_n_factors, f"{name}/log_n")

    def key(self, normed: Value, layer: DecoderLayer, name: str) -> Value:
        """Key rows before their rotation: (rows, kv_heads * head_dim)."""
        key = self.linear(normed, layer.key, f"{name}/k_proj")
        return self._normed_heads(key, self.dims.kv_width, layer.key_norm, f"{name}/k_norm")

    def value(self, normed: Value, layer: DecoderLayer, name: str) -> Value:
        """Value rows: (rows, kv_heads * head_dim)."""
        return self.linear(normed, layer.value, f"{name}/v_proj")

    def output(self, attended: Value, layer: DecoderLayer, name: str) -> Value:
        """The branch that the attention adds: (rows, hidden_size)."""
        return self.branch(self.linear(attended, layer.output, f"{name}/o_proj"), name)

    def branch(self, x: Value, name: str) -> Value:
        """What a half of a layer puts out, as it is added to the rows."""
        return self._times(x, self.spec.residual_multiplier, f"{name}/residual")

    def _normed_heads(self, x: Value, width: int, weight: Weight | None, name: str) -> Value:
        """Rows (rows, width) whose heads are normalised, each for itself."""
        if weight is None:
            return x
        g = self.g
        heads = g.reshape(x, -1, self.dims.head_dim)
        return g.reshape(g.rms_norm(heads, weight, self.spec.norm_eps, name), -1, width)

    def _times(self, x: Value, factor: float, name: str) -> Value:
        return x if factor == 1 else self.g.op("Mul", x, self.g.number(factor), name=name)

    def cache_layout(self, x: Value, name: str, output: str | None = None) -> Value:
        """Rows (rows, kv_heads * head_dim) in KV layout."""
        g = self.g
        split = g.reshape(x, -1, self.dims.num_kv_heads, self.dims.head_dim)
        return g.op("Transpose", split, name=name, perm=[1, 0, 2], outputs=[output] if output else 1)

    @property
    def narrows_prefix(self) -> bool:
        """Whether keys and values of the prompt are kept in another format than that of the graph."""
        return self.spec.prefix_type != sig.ACTIVATION

    def write_prefix(self, x: str, output: str) -> None:
        """Write keys or values of the prompt, in KV layout, in the format that they are kept in."""
        self.g.op("Cast", x, to=DTYPES[self.spec.prefix_type], name=output, outputs=[output])

    def read_prefix(self, prefix: str) -> Value:
        """The same in the format of the graph: of one layer, so never of all layers at once."""
        if not self.narrows_prefix:
            return Value(prefix)
        return self.g.op("Cast", prefix, to=self.g.precision.onnx_type, name=f"{prefix}/read")

    def tell_looks(
        self, i: int, query: Value, key: Value, beams: Value | int, bias: str | None = None
    ) -> None:
        """Write which rows of the prompt the word heads look at, if they are in this layer.

        Args:
            i: the layer.
            query: rotated, (requests * beams, heads * head_dim).
            key: rotated, (requests, kv_heads, prefix rows, head_dim).
            beams: of each request.
            bias: what hides rows of the prefix, (requests, 1, 1, prefix rows).
        """
        told, g, dims = self.spec.word_heads, self.g, self.dims
        if told is None or told.layer != i:
            return
        group, name = dims.num_heads // dims.num_kv_heads, f"/layers.{i}/attn/looks"
        split = g.reshape(query, -1, beams, dims.num_heads, dims.head_dim)
        chosen = g.op("Gather", split, g.ints(*told.heads), name=name, axis=2)
        keys = g.op("Gather", key, g.ints(*(head // group for head in told.heads)), name=name, axis=1)
        turned = (
            g.op("Transpose", x, perm=perm) for x, perm in ((chosen, (0, 2, 1, 3)), (keys, (0, 1, 3, 2)))
        )
        scores = g.op("Mul", g.op("MatMul", *turned, name=name), g.number(dims.head_dim**-0.5))
        shares = g.op("Softmax", scores if bias is None else g.op("Add", scores, bias), axis=-1)
        g.op("ReduceMean", shares, g.ints(1), name=name, keepdims=0, outputs=[sig.WORD_ATTENTION])

    def norm(self, x: Value, branch: Value | None, weight: Weight, name: str) -> tuple[Value, Value]:
        """x + branch and its normalisation; without a branch, x itself."""
        eps = self.spec.norm_eps
        if branch is None:
            return x, self.g.rms_norm(x, weight, eps, name)
        total, normed = self.lowering.add_norm(self.g, name, x, branch, weight, eps)
        shape = (None, self.dims.hidden_size)
        return self.g.shaped(total, shape), self.g.shaped(normed, shape)

    def wide(self, x: Value, linear: Linear, name: str) -> Value:
        """x W^T by one of the large matrices: those of the MLP and of the scores."""
        return self.g.linear(x, linear, name)

    def mlp(self, x: Value, layer: DecoderLayer, name: str) -> Value:
        """SwiGLU: down(silu(gate(x)) * up(x))."""
        g = self.g
        gate = self.wide(x, layer.gate, f"{name}/gate_proj")
        up = self.wide(x, layer.up, f"{name}/up_proj")
        gate = g.op("Mul", gate, g.op("Sigmoid", gate, name=name), name=name)
        down = self.wide(g.op("Mul", gate, up, name=f"{name}/gated"), layer.down, f"{name}/down_proj")
        return self.branch(down, name)

    def scores(self, x: Value, branch: Value) -> None:
        """Final norm and head; write the best logits, their ids and the log of the normaliser."""
        g = self.g
        _, normed = self.norm(x, branch, self.spec.final_norm, "/norm")
        logits = g.to_float(self.wide(normed, self.spec.head, "/lm_head"))
        if (divisor := self.spec.logits_divisor) != 1:
            logits = g.op("Div", logits, g.const(divisor, np.float32), name="/logits")
        g.ops("TopK", logits, sig.NUM_CANDIDATES, axis=-1, outputs=[sig.TOP_LOGITS, sig.TOP_IDS])
        self._log_sum_exp(logits)

    def _log_sum_exp(self, logits: Value) -> None:
        """The log of the normaliser, around the best logit, which is at hand."""
        g = self.g
        best = g.slice(sig.TOP_LOGITS, g.ints(0), g.ints(1), 1)
        shares = g.op("Exp", g.op("Sub", logits, best, name="/normaliser"), name="/normaliser")
        total = g.op("ReduceSum", shares, g.ints(-1), keepdims=0, name="/normaliser")
        best = g.op("Squeeze", best, g.ints(1))
        g.op("Add", g.op("Log", total), best, name="/normaliser", outputs=[sig.LOG_SUM_EXP])
