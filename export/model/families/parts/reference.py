"""The model of transformers that a family is compared with: how it is loaded, and where its parts are.

torch and transformers are imported when a model is loaded, not before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ....checkpoint.checkpoint import Checkpoint

Floats = npt.NDArray[np.floating[Any]]
Model = Any  # a transformers model for generation
Torch = Any  # a torch.Tensor


@dataclass(frozen=True)
class ModuleNames:
    """The modules of an encoder or a decoder, by the parts that nodes of the graphs are named after."""

    layer: str  # with {i}
    parts: Mapping[str, str]  # of a layer: how node names end -> module in the layer
    final_norm: str

    def part(self, name: str, i: int) -> str:
        """The module of one part of layer `i`."""
        return f"{self.layer.format(i=i)}.{self.parts[name]}"


WHISPER_LAYER = {
    "attn_norm": "self_attn_layer_norm",
    "attn/q_proj": "self_attn.q_proj",
    "attn/k_proj": "self_attn.k_proj",
    "attn/v_proj": "self_attn.v_proj",
    "attn/out_proj": "self_attn.out_proj",
    "mlp_norm": "final_layer_norm",
    "mlp/fc1": "fc1",
    "mlp/fc2": "fc2",
}
"""As transformers names the parts of a Whisper encoder layer, in any model that has one."""

LLAMA_LAYER = {
    "attn_norm": "input_layernorm",
    "attn/q_proj": "self_attn.q_proj",
    "attn/k_proj": "self_attn.k_proj",
    "attn/v_proj": "self_attn.v_proj",
    "attn/o_proj": "self_attn.o_proj",
    "mlp_norm": "post_attention_layernorm",
    "mlp/gate_proj": "mlp.gate_proj",
    "mlp/up_proj": "mlp.up_proj",
    "mlp/down_proj": "mlp.down_proj",
    "mlp": "mlp",
}
"""As transformers names the parts of a decoder layer of Llama, Qwen2 and their kin."""


@dataclass(frozen=True)
class TransformersReference:
    """A class of transformers, and what of it only its family knows."""

    config_class: str
    model_class: str
    encoder: ModuleNames
    decoder: ModuleNames
    encode_window: Callable[[Model, Floats, int], Floats]
    """The model, the mel frames of a window filled up with silence (mel bins, frames), and how many of them
    carry audio -> the audio tokens (tokens, hidden_size of the decoder).
    """
    prefixes: Mapping[str, str] = field(default_factory=dict)
    """How names of tensors begin on disk -> how they begin in the class, if it is another model's."""

    def load(self, checkpoint: Path, dtype: str = "float32") -> Model:
        """Load a checkpoint, with eager attention.

        Args:
            checkpoint: folder with config.json and safetensors.
            dtype: "float32" or "float64"; 16-bit weights are widened.
        """
        if not self.prefixes:
            return self._load(checkpoint, dtype)
        from safetensors.torch import load_file

        stored = Checkpoint(checkpoint)
        tensors = {name: tensor for file in stored.files for name, tensor in load_file(file).items()}
        return self.of_tensors(stored.config, tensors, dtype)

    def of_tensors(
        self, config: Mapping[str, Any], tensors: Mapping[str, Torch], dtype: str = "float32"
    ) -> Model:
        """As `load`, from the content of a config.json and tensors by their names on disk."""
        import transformers

        values = {key: value for key, value in config.items() if key != "model_type" or not self.prefixes}
        settings = getattr(transformers, self.config_class).from_dict(values)
        named = {self._in_class(name): tensor for name, tensor in tensors.items()}
        return self._load(None, dtype, config=settings, state_dict=named)

    def _in_class(self, name: str) -> str:
        old = next((prefix for prefix in self.prefixes if name.startswith(prefix)), "")
        return self.prefixes.get(old, "") + name.removeprefix(old)

    def _load(self, checkpoint: Path | None, dtype: str, **source: Any) -> Model:
        import torch
        import transformers

        model, report = getattr(transformers, self.model_class).from_pretrained(
            checkpoint,
            dtype=getattr(torch, dtype),
            attn_implementation="eager",
            local_files_only=True,
            output_loading_info=True,
            **source,
        )
        if "lm_head.weight" in report["missing_keys"]:  # stored as tied, which not every class knows
            model.get_output_embeddings().weight = model.get_input_embeddings().weight
        return model.eval()
