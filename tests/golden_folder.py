"""A folder of recorded outputs, as `check` reads it, from a float64 forward that shares no code with ours.

A tiny random Qwen-Audio, version 1, and the reduction, each straight from its definition. As in the published
implementation, rows keep to the right end of the positions: layer l rotates its n_l rows of N by N - n_l to
N - 1, and decode step t by N + t in every layer, whatever its cache holds. Rows that are evicted from a cache
stay in it, behind a mask. What it does beyond `seq_length` are its `Rules`, which tests break one by one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

Array = np.ndarray[Any, np.dtype[Any]]
Config = Mapping[str, Any]
Setting = Mapping[str, Any]

CONFIG: Config = {
    "model_type": "qwen",
    "architectures": ["QWenLMHeadModel"],
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 6,
    "num_attention_heads": 2,
    "kv_channels": 16,
    "intermediate_size": 2 * 48,  # gate and up together
    "seq_length": 64,
    "max_position_embeddings": 256,
    "use_dynamic_ntk": True,
    "use_logn_attn": True,
    "no_bias": True,
    "rotary_emb_base": 10000,
    "rotary_pct": 1.0,
    "layer_norm_epsilon": 1e-5,
    "torch_dtype": "float32",
    "audio": {
        "n_mels": 80,
        "n_ctx": 100,
        "n_state": 16,
        "n_head": 2,
        "n_layer": 2,
        "output_dim": 32,
        "audio_start_id": 50,
        "avg_pool": True,
        "add_audio_bos_eos_token": True,
    },
}
MEL_FRAMES = 149  # odd, and it gives an odd number of encoder rows
WINDOW_FRAMES = 200
BEFORE, AFTER = (1, 2, 3), (4, 5, 6, 7)  # text around the audio
STEPS = 4
LONG: Config = {  # of other sizes, with a prompt of nearly three times its training length
    **CONFIG,
    "hidden_size": 40,
    "num_hidden_layers": 5,
    "kv_channels": 20,
    "rotary_emb_base": 5000,
    "seq_length": 16,
    "audio": {**CONFIG["audio"], "output_dim": 40},
}


@dataclass(frozen=True)
class Rules:
    """Of a prompt of N rows beyond the S of the training: base times alpha^(d / (d - 2)), and log-n."""

    def alpha(self, trained: int, prompt: int, here: int, step: int | None) -> float:
        """Of a layer of `here` rows, in the prefill (None) or in the step at a place after the prompt."""
        return self.of_ratio(prompt / trained)

    def of_ratio(self, ratio: float) -> float:
        return max(2.0 ** math.ceil(math.log2(ratio) + 1) - 1, 1.0)

    def keys(self, prompt: int, here: int, new: int) -> Array:
        """Of each of the `new` last of `here` rows: how many keys it sees."""
        return np.arange(here - new, here) + 1

    def factor(self, trained: int, keys: Array) -> Array:
        return np.maximum(np.log(keys) / math.log(trained), 1)

    def mass_of(self, scaled: Array, plain: Array) -> Array:
        """Of column sums under scaled and plain queries, those that count."""
        return scaled


PUBLISHED = Rules()


def setting(method: str, schedule: str = "none", start_layer: int = 6, ratio: float = 0.0) -> Setting:
    """What golden.json says of a setting before it is run; a start layer beyond the last reduces nothing."""
    return {"method": method, "ratio": ratio, "start_layer": start_layer, "schedule": schedule}


SETTINGS = (
    setting("full"),
    *(
        setting(method, schedule, start_layer, ratio)
        for method in ("merge_weighted", "merge_ave", "atome", "fastv_evict")
        for schedule, start_layer, ratio in (("none", 2, 0.5), ("constant", 0, 0.12), ("decay", 1, 0.29))
    ),
    setting("kv_evict", "none", 2, 0.3),
)


def edge(one: Setting, **changes: Any) -> Setting:
    """A setting of a model with other settings, or of the first rows of the prompt (`prompt_length`)."""
    own = {key: LONG[key] for key in ("seq_length", "use_dynamic_ntk", "use_logn_attn")}
    return {**one, **own, **changes}


HALF, CONSTANT = setting("merge_weighted", "none", 1, 0.5), setting("merge_weighted", "constant", 1, 0.1)
EDGES = (  # the prompt has 46 rows, and 4 steps follow
    edge(setting("full"), seq_length=48),  # steps pass the training length
    edge(setting("full"), seq_length=46),
    edge(HALF, seq_length=45),
    edge(HALF, seq_length=23),
    edge(CONSTANT, seq_length=15, prompt_length=45),
    edge(setting("full"), seq_length=24),  # steps pass twice the training length
    edge(CONSTANT, use_logn_attn=False),
    edge(CONSTANT, use_dynamic_ntk=False),
    edge(setting("kv_evict", "none", 1, 0.3), seq_length=48),
)


def write_golden(
    folder: Path,
    settings: Iterable[Setting] = SETTINGS,
    seed: int = 0,
    config: Config = CONFIG,
    edges: Sequence[Setting] = (),
    rules: Rules = PUBLISHED,
) -> None:
    """Write config.json, model.safetensors, golden.json and golden.safetensors.

    With `edges`, settings of the model among them, it is a recording of the newer form: with alpha, and with
    logits64 beside logits, which are spoiled, because nothing should compare with them.
    """
    rng = np.random.default_rng(seed)
    weights = {name: _draw(rng, name, shape) for name, shape in _shapes(config).items()}
    mel = rng.standard_normal((1, 80, WINDOW_FRAMES)).astype(np.float32)  # the padding is not silent
    rows = audio_rows(weights, config, mel[0], MEL_FRAMES)
    ids, span = _prompt(config, len(rows))
    arrays = {"mel": mel, "audio_embeds": rows, "input_ids": ids[None]}
    content: dict[str, Any] = {"config": _summary(config, len(rows), span, len(ids))}
    for kind, some in (("", settings), ("edge_", edges)):
        records = [record(weights, config, rows, ids, span, one, STEPS, rules) for one in some]
        content[f"{kind}settings"] = [found for found, _ in records]
        for i, (_, logits) in enumerate(records):
            arrays |= {f"{kind}logits.{i}": logits + bool(edges)}
            arrays |= {f"{kind}logits64.{i}": logits} if edges else {}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config, indent=1), "utf-8")
    save_file(weights, folder / "model.safetensors")
    save_file(arrays, folder / "golden.safetensors")
    (folder / "golden.json").write_text(json.dumps(content, indent=1), "utf-8")


def record(
    weights: Mapping[str, Array],
    config: Config,
    rows: Array,
    ids: Array,
    span: tuple[int, int],
    one: Setting,
    steps: int,
    rules: Rules = PUBLISHED,
) -> tuple[dict[str, Any], Array]:
    """Greedy search under one setting: its entry of golden.json, and logits (1 + steps, vocabulary)."""
    ids, config = ids[: one.get("prompt_length")], {**config, **one}
    decoder = _Decoder(weights, config, rules)
    logits = [decoder.prefill(rows, ids, span, one)]
    kv_lengths = [len(key) for key, _ in decoder.cache]
    for step in range(steps):
        logits.append(decoder.step(int(logits[-1].argmax()), len(ids) + step))
    tokens = [int(row.argmax()) for row in logits]
    found = {"kv_lengths": kv_lengths, "final_rows": decoder.final_rows, "tokens": tokens}
    scales = config["use_dynamic_ntk"]
    alpha = int(PUBLISHED.alpha(config["seq_length"], len(ids), 0, None)) if scales else 1
    return {**one, **found, "ntk_alpha": alpha}, np.stack(logits)


def audio_rows(weights: Mapping[str, Array], config: Config, mel: Array, mel_frames: int) -> Array:
    """The encoder: mel (bins, frames) to the bos row, one row for four frames, and the eos row."""
    w = {name.removeprefix("transformer.audio."): x.astype(np.float64) for name, x in weights.items()}
    num_rows = (mel_frames - 1) // 2 + 1
    x = mel[:, : 2 * num_rows].T.astype(np.float64)
    for name, stride in (("conv1", 1), ("conv2", 2)):
        x = _gelu(_convolve(x, w[f"{name}.weight"], w[f"{name}.bias"], stride))
    x = x + w["positional_embedding"][:num_rows]
    for i in range(config["audio"]["n_layer"]):
        x = _encoder_layer(w, f"blocks.{i}", x, config["audio"]["n_head"])
    pairs = [(x[at] + x[at + 1]) / 2 for at in range(0, num_rows - 1, 2)]
    frames = _linear(w, "proj", _layer_norm(w, "ln_post", np.stack(pairs)))
    bos, eos = w["audio_bos_eos_token.weight"]
    return np.stack([bos, *frames, eos])


def _encoder_layer(w: Mapping[str, Array], base: str, x: Array, heads: int) -> Array:
    y = _layer_norm(w, f"{base}.attn_ln", x)
    parts = (_linear(w, f"{base}.attn.{part}", y) for part in ("query", "key", "value"))
    q, k, v = (part.reshape(len(x), heads, -1) for part in parts)
    attended, _ = _attend(q, k, v, np.zeros((1, len(x), len(x)), bool))
    x = x + _linear(w, f"{base}.attn.out", attended)
    y = _gelu(_linear(w, f"{base}.mlp.0", _layer_norm(w, f"{base}.mlp_ln", x)))
    return x + _linear(w, f"{base}.mlp.2", y)


class _Decoder:
    """One prompt and its KV cache: for each layer keys and values (rows, heads, head_dim)."""

    def __init__(self, weights: Mapping[str, Array], config: Config, rules: Rules) -> None:
        self.w = {name.removeprefix("transformer."): x.astype(np.float64) for name, x in weights.items()}
        self.config, self.num_layers = config, config["num_hidden_layers"]
        self.cache: list[tuple[Array, Array]] = []
        self.hidden: dict[int, Array] = {}  # of a layer: rows that steps do not see, (heads, prompt)
        self.rules, self.final_rows, self.prompt = rules, 0, 0

    def prefill(self, rows: Array, ids: Array, span: tuple[int, int], one: Setting) -> Array:
        start, end = span  # the bos row belongs to it, the eos row does not
        self.prompt = len(ids)
        x = self.w["wte.weight"][ids]
        x[start : end + 1] = rows
        for i in range(self.num_layers):
            positions = np.arange(len(ids) - len(x), len(ids))
            empty = np.empty((0, self.config["num_attention_heads"], self.config["kv_channels"]))
            x, cached, head_mass = self._attention(i, x, positions, (empty, empty))
            self.cache.append(cached)
            mass = head_mass.sum(0)
            if one["method"] == "kv_evict":
                if i >= one["start_layer"]:
                    self.hidden[i] = _hidden(head_mass, start, end, one["ratio"])
            elif count := _rows_to_remove(one, i, self.num_layers, end - start):
                inside = slice(start, end)
                kept = REDUCTIONS[one["method"]](x[inside], cached[0][inside], mass[inside], count)
                x = np.concatenate([x[:start], kept, x[end:]])
                end = start + len(kept)
            x = x + self._mlp(i, x)
        self.final_rows = len(x)
        return self._head(x[-1])

    def step(self, token: int, position: int) -> Array:
        x = self.w["wte.weight"][[token]]
        for i in range(self.num_layers):
            x, self.cache[i], _ = self._attention(i, x, np.array([position]), self.cache[i], position)
            x = x + self._mlp(i, x)
        return self._head(x[-1])

    def _attention(
        self, i: int, x: Array, positions: Array, past: tuple[Array, Array], step: int | None = None
    ) -> tuple[Array, tuple[Array, Array], Array]:
        """Residual plus attention, the cache with the new rows, and the column sums of each head."""
        y = _linear(self.w, f"h.{i}.attn.c_attn", self._norm(f"h.{i}.ln_1", x))
        q, k, v = y.reshape(len(x), 3, self.config["num_attention_heads"], -1).transpose(1, 0, 2, 3)
        here, config, rules = len(past[0]) + len(k), self.config, self.rules
        base, trained, width = config["rotary_emb_base"], config["seq_length"], config["kv_channels"]
        if config["use_dynamic_ntk"]:
            base *= rules.alpha(trained, self.prompt, here, step) ** (width / (width - 2))
        q, k = (_rotate(part, positions, base) for part in (q, k))
        key, value = np.concatenate([past[0], k]), np.concatenate([past[1], v])
        later = np.triu(np.ones((len(q), here), bool), 1 + here - len(q))[None]
        if step is not None and i in self.hidden:
            later = np.pad(self.hidden[i], ((0, 0), (0, here - self.prompt)))[:, None]
        scaled = q
        if config["use_logn_attn"]:
            scaled = q * rules.factor(trained, rules.keys(self.prompt, here, len(q)))[:, None, None]
        attended, mass = _attend(scaled, key, value, later)
        mass = rules.mass_of(mass, _attend(q, key, value, later)[1])
        return x + _linear(self.w, f"h.{i}.attn.c_proj", attended), (key, value), mass

    def _mlp(self, i: int, x: Array) -> Array:
        y = self._norm(f"h.{i}.ln_2", x)
        up, gate = (_linear(self.w, f"h.{i}.mlp.{name}", y) for name in ("w1", "w2"))
        return _linear(self.w, f"h.{i}.mlp.c_proj", up * gate / (1 + np.exp(-gate)))

    def _norm(self, name: str, x: Array) -> Array:
        square = (x**2).mean(-1, keepdims=True) + self.config["layer_norm_epsilon"]
        return x / np.sqrt(square) * self.w[f"{name}.weight"]

    def _head(self, x: Array) -> Array:
        return self.w["lm_head.weight"] @ self._norm("ln_f", x)


def _rows_to_remove(one: Setting, layer: int, num_layers: int, length: int) -> int:
    """floor(length * ratio of the layer), exactly."""
    start, schedule = one["start_layer"], one["schedule"]
    if one["method"] == "full" or layer < start or (schedule == "none" and layer > start):
        return 0
    ratio = Fraction(str(one["ratio"]))
    if schedule == "decay":
        ratio *= 1 - Fraction(layer - start, num_layers - 1 - start)
    return math.floor(length * ratio)


def _hidden(mass: Array, start: int, end: int, kept: float) -> Array:
    """Rows that each head has lost, (heads, rows): all of the span but the `kept` share with most mass."""
    hidden = np.zeros(mass.shape, bool)
    budget = int(np.float32(mass.shape[1] - (end - start)) + np.float32(kept) * (end - start))
    for head, sums in enumerate(mass):
        order = sorted(range(start, end), key=lambda row, sums=sums: (sums[row], row))
        hidden[head, order[: mass.shape[1] - budget]] = True
    return hidden


def _best_edges(key: Array, count: int) -> list[int]:
    """The `count` pairs of neighbours with the most similar keys, all heads as one vector, in order."""
    flat = key.reshape(len(key), -1)
    unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    similarity = [float(a @ b) for a, b in pairwise(unit)]
    return sorted(sorted(range(len(similarity)), key=lambda i: (-similarity[i], i))[:count])


def _runs(key: Array, count: int) -> list[list[int]]:
    """Rows that become one, row by row."""
    edges, runs = _best_edges(key, count), [[0]]
    for row in range(1, len(key)):
        if row - 1 in edges:
            runs[-1].append(row)
        else:
            runs.append([row])
    return runs


def _merge_weighted(h: Array, key: Array, mass: Array, count: int) -> Array:
    return np.stack([np.average(h[run], axis=0, weights=mass[run]) for run in _runs(key, count)])


def _merge_average(h: Array, key: Array, mass: Array, count: int) -> Array:
    return np.stack([h[run].mean(0) for run in _runs(key, count)])


def _merge_pairs(h: Array, key: Array, mass: Array, count: int) -> Array:
    edges, merged, row = _best_edges(key, count), [], 0
    while row < len(h):
        merged.append((h[row] + h[row + 1]) / 2 if row in edges else h[row])
        row += 2 if row in edges else 1
    return np.stack(merged)


def _evict(h: Array, key: Array, mass: Array, count: int) -> Array:
    return np.delete(h, sorted(range(len(h)), key=lambda row: (mass[row], row))[:count], axis=0)


REDUCTIONS: Mapping[str, Callable[[Array, Array, Array, int], Array]] = {
    "merge_weighted": _merge_weighted,
    "merge_ave": _merge_average,
    "atome": _merge_pairs,
    "fastv_evict": _evict,
}


def _attend(query: Array, key: Array, value: Array, unseen: Array) -> tuple[Array, Array]:
    """Attention of (rows, heads, head_dim), and each key's probabilities over all queries: (heads, keys)."""
    scores = np.einsum("ihd,jhd->hij", query, key) / math.sqrt(query.shape[-1])
    scores = np.exp(np.where(unseen, -np.inf, scores))
    probabilities = scores / scores.sum(-1, keepdims=True)
    attended = np.einsum("hij,jhd->ihd", probabilities, value)
    return attended.reshape(len(query), -1), probabilities.sum(1)


def _rotate(x: Array, positions: Array, base: float) -> Array:
    half = x.shape[-1] // 2
    angles = positions[:, None, None] * base ** -(np.arange(half) / half)
    first, second = x[..., :half], x[..., half:]
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def _linear(w: Mapping[str, Array], name: str, x: Array) -> Array:
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)


def _layer_norm(w: Mapping[str, Array], name: str, x: Array) -> Array:
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]


def _convolve(x: Array, weight: Array, bias: Array, stride: int) -> Array:
    """Kernel 3, one row of zeros at each end: (rows, channels)."""
    padded = np.pad(x, ((1, 1), (0, 0)))
    return np.stack(
        [np.einsum("kc,ock->o", padded[at : at + 3], weight) + bias for at in range(0, len(x), stride)]
    )


def _gelu(x: Array) -> Array:
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def _shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Every tensor of a checkpoint."""
    audio, d = config["audio"], config["hidden_size"]
    m, a = config["intermediate_size"] // 2, audio["n_state"]
    own = {
        "wte.weight": (config["vocab_size"], d),
        "ln_f.weight": (d,),
        "audio.positional_embedding": (audio["n_ctx"], a),
        "audio.audio_bos_eos_token.weight": (2, d),
        **_with_bias("audio.conv1", a, audio["n_mels"], 3),
        **_with_bias("audio.conv2", a, a, 3),
        **_with_bias("audio.ln_post", a),
        **_with_bias("audio.proj", d, a),
    }
    for i in range(config["num_hidden_layers"]):
        own |= _with_bias(f"h.{i}.attn.c_attn", 3 * d, d)
        own |= {f"h.{i}.ln_1.weight": (d,), f"h.{i}.ln_2.weight": (d,)}
        own |= {f"h.{i}.attn.c_proj.weight": (d, d), f"h.{i}.mlp.c_proj.weight": (d, m)}
        own |= {f"h.{i}.mlp.w1.weight": (m, d), f"h.{i}.mlp.w2.weight": (m, d)}
    for i in range(audio["n_layer"]):
        own |= {f"audio.blocks.{i}.attn.key.weight": (a, a)}
        sizes = {"attn.query": (a, a), "attn.value": (a, a), "attn.out": (a, a), "attn_ln": (a,)}
        sizes |= {"mlp.0": (4 * a, a), "mlp.2": (a, 4 * a), "mlp_ln": (a,)}
        for name, size in sizes.items():
            own |= _with_bias(f"audio.blocks.{i}.{name}", *size)
    return {f"transformer.{name}": shape for name, shape in own.items()} | {
        "lm_head.weight": (config["vocab_size"], d)
    }


def _with_bias(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _draw(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> Array:
    """Weights of which none is neutral: attention is sharp, and norms and biases count."""
    noise = rng.standard_normal(shape)
    if len(shape) == 1:
        noise = 0.2 * noise + float("ln" in name and name.endswith("weight"))
    elif "wte" not in name and "lm_head" not in name:
        noise *= 1.5 / math.sqrt(math.prod(shape[1:]))
    return noise.astype(np.float32)


def _prompt(config: Config, num_rows: int) -> tuple[Array, tuple[int, int]]:
    """Ids (N,), and the span: from the `<audio>` position to before `</audio>`."""
    first = config["audio"]["audio_start_id"]
    audio = (first, *[0] * (num_rows - 2), first + 1)
    return np.array([*BEFORE, *audio, *AFTER]), (len(BEFORE), len(BEFORE) + num_rows - 1)


def _summary(config: Config, num_rows: int, span: tuple[int, int], prompt_length: int) -> dict[str, Any]:
    """What golden.json says of the model and the prompt."""
    audio = {name: value for name, value in config["audio"].items() if not isinstance(value, bool)}
    return {
        "hidden_size": config["hidden_size"],
        "num_hidden_layers": config["num_hidden_layers"],
        "num_attention_heads": config["num_attention_heads"],
        "ffn": config["intermediate_size"] // 2,
        "vocab_size": config["vocab_size"],
        "rms_norm_eps": config["layer_norm_epsilon"],
        "rope_base": config["rotary_emb_base"],
        "audio": audio,
        "mel_frames": MEL_FRAMES,
        "audio_tokens": num_rows - 2,
        "span": list(span),
        "prompt_length": prompt_length,
    }
