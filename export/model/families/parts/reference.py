"""The model of transformers that a family is compared with: how it is loaded, and where its parts are.

torch and transformers are imported when a model is loaded, not before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .....profiles.errors import CheckpointError
from ....checkpoint.checkpoint import Checkpoint

Floats = npt.NDArray[np.floating[Any]]
Model = Any  # a transformers model for generation
Torch = Any  # a torch.Tensor
Config = Mapping[str, Any]  # the content of a config.json
Tensors = Mapping[str, Torch]  # by name

MOST_RECORDS, NEVER = 1000, logging.CRITICAL + 1  # the level at which they would be shown at once


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
    "attn/q_norm": "self_attn.q_norm",
    "attn/k_proj": "self_attn.k_proj",
    "attn/k_norm": "self_attn.k_norm",
    "attn/v_proj": "self_attn.v_proj",
    "attn/o_proj": "self_attn.o_proj",
    "mlp_norm": "post_attention_layernorm",
    "mlp/gate_proj": "mlp.gate_proj",
    "mlp/up_proj": "mlp.up_proj",
    "mlp/down_proj": "mlp.down_proj",
    "mlp": "mlp",
}
"""As transformers names the parts of a decoder layer of Llama, Qwen2, Qwen3 and their kin; most have no norms
of heads."""


@dataclass(frozen=True)
class Layout:
    """How a class of transformers has what a checkpoint has in another way."""

    config: Callable[[Config], Config]  # of the content of config.json
    name: Callable[[str], str | None]  # of the name of a tensor; None: it has no such part


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
    layout: Layout | None = None  # None: the class loads checkpoints as they are

    def load(self, checkpoint: Path, dtype: str = "float32") -> Model:
        """Load a checkpoint, with eager attention.

        Args:
            checkpoint: folder with config.json and safetensors.
            dtype: "float32" or "float64"; 16-bit weights are widened.
        """
        if self.layout is None:
            return self._load(checkpoint, dtype)
        stored = Checkpoint(checkpoint)
        return self.of_tensors(stored.config, _tensors_of(stored, self.layout), dtype)

    def of_tensors(self, config: Config, tensors: Tensors, dtype: str = "float32") -> Model:
        """As `load`, from the content of a config.json and tensors by their names on disk."""
        import transformers

        if self.layout is not None:
            config = self.layout.config(config)
            named = ((self.layout.name(name), tensor) for name, tensor in tensors.items())
            tensors = {name: tensor for name, tensor in named if name is not None}
        settings = getattr(transformers, self.config_class).from_dict(dict(config))
        return self._load(None, dtype, config=settings, state_dict=dict(tensors))

    def _load(self, checkpoint: Path | None, dtype: str, **source: Any) -> Model:
        import torch
        import transformers

        with _report_of_failure():
            model, report = getattr(transformers, self.model_class).from_pretrained(
                checkpoint,
                dtype=getattr(torch, dtype),
                attn_implementation="eager",
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                **source,
            )
        if found := sorted(report["mismatched_keys"]):
            name, shape, expected = found[0]
            raise CheckpointError(
                f"{self.model_class} of transformers {transformers.__version__}: {name} is {tuple(shape)} "
                f"instead of {tuple(expected)}, one of {len(found)} tensors that do not fit the settings of "
                f"{checkpoint or 'the artifact: build it again'}"
            )
        if "lm_head.weight" in report["missing_keys"]:  # stored as tied, which not every class knows
            model.get_output_embeddings().weight = model.get_input_embeddings().weight
        return model.eval()


@contextmanager
def _report_of_failure() -> Iterator[None]:
    """What transformers tells while it loads is shown if it fails, and else dropped: of parts that are left
    out, one that is needed shows as a difference.
    """
    logger, held = logging.getLogger("transformers"), MemoryHandler(MOST_RECORDS, flushLevel=NEVER)
    handlers, propagate = (
        logger.handlers,
        logger.propagate,
    )  # it propagates where an application asks for it, and on CI
    logger.handlers, logger.propagate = [held], False
    try:
        yield
        held.buffer.clear()
    finally:
        logger.handlers, logger.propagate = handlers, propagate
        for record in held.buffer:
            logger.handle(record)


def renamed(prefixes: Mapping[str, str]) -> Callable[[str], str]:
    """The name of a tensor on disk -> that in a class, by how names begin; the first that fits is taken."""

    def name_in_class(name: str) -> str:
        old = next((prefix for prefix in prefixes if name.startswith(prefix)), "")
        return prefixes.get(old, "") + name.removeprefix(old)

    return name_in_class


def of_another_model(config: Config) -> Config:
    """The settings for a class of another `model_type`."""
    return {key: value for key, value in config.items() if key != "model_type"}


def _tensors_of(checkpoint: Checkpoint, layout: Layout) -> Tensors:
    """Those that are parts of the class, by their names on disk."""
    from safetensors import safe_open

    found: dict[str, Torch] = {}
    for file in checkpoint.files:
        with safe_open(file, "pt") as tensors:
            names = tensors.keys()
            found |= {name: tensors.get_tensor(name) for name in names if layout.name(name)}
    return found
