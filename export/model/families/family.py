"""The protocol of a family, and the table of known ones."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from importlib import import_module
from typing import Protocol, cast

from ....profiles.errors import CheckpointError, RequestError
from ....runtime.decoding.options import ResolvedSearch, SearchOptions
from ...checkpoint.checkpoint import Checkpoint
from ...checkpoint.contents import refuse_quantized
from ..facts import Facts
from ..spec import SpeechModelSpec
from .parts.reference import TransformersReference

LOGGER = logging.getLogger(__name__)
FAMILIES = {
    "qwen2_audio": "qwen2_audio",
    "qwen": "qwen_audio",
    "wavllm": "wavllm",
    "qwen2_5_omni": "qwen2_5_omni",
    "qwen2_5_omni_thinker": "qwen2_5_omni",
    "qwen3_asr": "qwen3_asr",
    "glmasr": "glmasr",
    "voxtral": "voxtral",
    "audioflamingo3": "audioflamingo3",
    "aero": "aero",
    "granite_speech": "granite_speech",
    "fun_asr_nano": "fun_asr_nano",
    "vibevoice_asr": "vibevoice_asr",
}
"""`model_type` of config.json -> family: a module of this package, by whose name manifests call it."""


class Family(Protocol):
    """A module of this package. To import it is cheap: torch comes with the model of its reference."""

    REFERENCE: TransformersReference | None
    """What it is compared with; None where transformers has no such model."""

    FACTS: Facts
    """What there is to say of it."""

    def load(self, checkpoint: Checkpoint) -> SpeechModelSpec:
        """Describe a checkpoint by role.

        Raises:
            CheckpointError: a setting or a tensor that this family does not support.
        """


def load_model(checkpoint: Checkpoint) -> SpeechModelSpec:
    """Describe a checkpoint of any known family, and log what it holds and the description does not."""
    model = describe(checkpoint)
    say(model.notes)
    return model


def describe(checkpoint: Checkpoint) -> SpeechModelSpec:
    """As `load_model`, and nothing is logged.

    Raises:
        CheckpointError: as `Family.load`, quantised weights, or a search with tokens that the model lacks.
    """
    family = _module(family_of(checkpoint))
    refuse_quantized(checkpoint)
    model = family.load(checkpoint)
    _check_vocabulary(checkpoint, model)
    return _within_positions(model)


def _within_positions(model: SpeechModelSpec) -> SpeechModelSpec:
    """The model without a suggested length that leaves no position for a prompt and audio.

    With it, no request that leaves the length out could be answered.
    """
    given, positions = model.generation.given, model.decoder.max_positions
    asked = given.get("max_new_tokens", 0)
    if asked < positions - model.front_end.rows_around - 1:
        return model
    kept = {name: value for name, value in given.items() if name != "max_new_tokens"}
    note = (
        f"max_new_tokens {asked} of the checkpoint leaves none of its {positions} positions for audio: "
        f"left out; requests have {ResolvedSearch().max_new_tokens} unless they say otherwise"
    )
    return replace(model, generation=SearchOptions(**kept), notes=(*model.notes, note))


def _check_vocabulary(checkpoint: Checkpoint, model: SpeechModelSpec) -> None:
    """Refuse ids of a search that are no tokens: no artifact can have them."""
    search = replace(model.generation, eos_token_ids=model.eos_token_ids)
    try:
        search.check_vocabulary(model.decoder.dims.vocab_size)
    except RequestError as error:
        raise CheckpointError(
            f"checkpoint {checkpoint.folder}: {error} in generation_config.json, or config.json"
        ) from None


def say(notes: Iterable[str]) -> None:
    """Log what users of a checkpoint should know."""
    for note in notes:
        LOGGER.warning("warning: %s", note)


def family_of(checkpoint: Checkpoint) -> str:
    """The name of a checkpoint's family.

    Raises:
        CheckpointError: it is of no known one.
    """
    model_type = checkpoint.config.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        known = ", ".join(f"{kind} ({it.name})" for kind, it in sorted(known_families().items()))
        raise CheckpointError(
            f"{checkpoint.folder}/config.json: model_type {model_type!r} is not supported; known: {known}"
        )
    return FAMILIES[model_type]


def known_families() -> dict[str, Facts]:
    """What there is to say of each family, by `model_type`."""
    return {model_type: _module(family).FACTS for model_type, family in FAMILIES.items()}


def reference_of(family: str) -> TransformersReference | None:
    """What a family is compared with; None where there is no such model, or no such family."""
    return _module(family).REFERENCE if family in FAMILIES.values() else None


def families_with_reference() -> list[str]:
    """The families that can be compared with a model of transformers, each once."""
    return [family for family in dict.fromkeys(FAMILIES.values()) if reference_of(family)]


def _module(family: str) -> Family:
    return cast(Family, import_module(f".{family}", __package__))
