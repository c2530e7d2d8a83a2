"""What a build changes in a model when it is asked to: an adapter, more positions, a folded prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..profiles.errors import CheckpointError
from ..profiles.long_context import LONGEST_LOG_N
from ..runtime.artifact.manifest import FoldedPrompt
from ..runtime.artifact.part_faults.model import LARGEST_POSITIONS
from .checkpoint.checkpoint import Checkpoint
from .checkpoint.derived import Derived
from .checkpoint.quantized import QuantizedWeight
from .checkpoint.tokenizer import prompt_codec
from .model.families.family import load_model
from .model.lora.adapter import read_adapter
from .model.lora.fold import with_adapter
from .model.spec import Linear, SpeechModelSpec
from .options import BuildOptions
from .reference.spec_decoder import strength_in_turn

Floats = npt.NDArray[np.float32]


def adapted(
    model: SpeechModelSpec, checkpoint: Checkpoint, options: BuildOptions, report: Callable[[str], None]
) -> SpeechModelSpec:
    """The model as it is to be built.

    Raises:
        CheckpointError: an adapter that cannot be folded; the positions asked for are not more than it has or
            beyond the most that it can have; it has no prompt adapter to fold.
    """
    model = with_lora(model, checkpoint, options.lora)
    if options.max_positions is not None:
        model = with_positions(model, options.max_positions)
    if options.fold_prompt is not None:
        report("fold the prompt")
        model = with_folded_prompt(model, checkpoint, options.fold_prompt)
    return model


def load_adapted(folder: Path, lora: Path | None) -> tuple[Checkpoint, SpeechModelSpec]:
    """A checkpoint and its model, with an adapter folded in if there is one.

    Raises:
        CheckpointError: the checkpoint is not supported, or the adapter cannot be folded.
    """
    model = load_model(checkpoint := Checkpoint(folder))
    return checkpoint, with_lora(model, checkpoint, lora)


def with_lora(model: SpeechModelSpec, checkpoint: Checkpoint, lora: Path | None) -> SpeechModelSpec:
    """The model whose weights the adapter in a folder has changed, if there is one."""
    return model if lora is None else with_adapter(model, checkpoint, read_adapter(lora))


def with_positions(model: SpeechModelSpec, positions: int) -> SpeechModelSpec:
    """The model with more positions than its checkpoint has. Rotary angles have no table that could end."""
    trained, context = model.decoder.max_positions, model.decoder.long_context
    most = LONGEST_LOG_N if context and context.log_n else LARGEST_POSITIONS
    if positions <= trained:
        raise CheckpointError(
            f"max_positions {positions}: the checkpoint has {trained} by itself; give more, or leave it out"
        )
    if positions > most:
        raise CheckpointError(
            f"max_positions {positions}: give at most {most}"
            f"{', where the factors of log-n end' if most == LONGEST_LOG_N else ''}"
        )
    decoder = replace(model.decoder, max_positions=positions, trained_positions=trained)
    note = (
        f"positions {trained} to {positions - 1} are extrapolated: the checkpoint was not trained on their "
        "rotary angles, so answers to prompts of more rows may be worse"
    )
    return replace(model, decoder=decoder, notes=(*model.notes, note))


def with_folded_prompt(model: SpeechModelSpec, checkpoint: Checkpoint, text: str) -> SpeechModelSpec:
    """The model for one prompt alone: no LoRA, its weights changed as that prompt would change them."""
    decoder, prompt = model.decoder, model.prompt
    if decoder.prompt_adapter is None:
        raise CheckpointError(
            f"checkpoint {checkpoint.folder}: prompts do not change the weights of family {model.family}, so "
            "none is folded into them; build without --fold-prompt"
        )
    ids = prompt_codec(checkpoint, prompt).encode(text).adapter
    assert prompt is not None
    assert ids is not None, "the template of a model with a prompt adapter gives them"
    strength = strength_in_turn(decoder, ids)
    layers = tuple(layer.with_attention(lambda it: folded(it, strength)) for layer in decoder.layers)
    record = FoldedPrompt(text, tuple(ids.tolist()))
    decoder = replace(decoder, layers=layers, prompt_adapter=None, folded_prompt=record)
    return replace(model, decoder=decoder, prompt=replace(prompt, default_prompt=text))


def folded(linear: Linear, strength: Floats) -> Linear:
    """W + (A B diag(strength))^T in place of weight and LoRA, computed in float32 when it is written."""
    if linear.lora is None:
        return linear
    assert not isinstance(linear.weight, QuantizedWeight), "a model is quantised after all else"
    sources = linear.weight, linear.lora.down, linear.lora.up
    weight = Derived(
        name=f"{linear.weight.name}.folded",
        shape=linear.weight.shape,
        sources=sources,
        compute=lambda weight, down, up: weight + (down @ (up * strength)).T,
    )
    return replace(linear, weight=weight, lora=None)
