"""A model of an audio tower alone, read from a folder that `torch_tower` wrote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.model.families.parts import wavllm_tower as family
from fastadasp.export.model.families.parts.settings import refuse_faults
from fastadasp.export.model.spec import DecoderSpec, Linear, SpeechModelSpec
from fastadasp.profiles.flops import DecoderDims


def load_tower(folder: Path, **changes: object) -> SpeechModelSpec:
    """The tower before a decoder of no layers; `changes` are settings by section and key: adapter__stride."""
    checkpoint = Checkpoint(folder).without(family.WRAPPER)
    config = dict(checkpoint.config)
    for path, value in changes.items():
        section, _, key = path.partition("__")
        config[section] = {**config[section], key: value} if key else value
    found = family.read_settings("config.json", config, config["sampling_rate"], config["chunk_samples"])
    refuse_faults(*found.sections)
    hidden = config["text_config"]["hidden_size"]
    tower = family.read_tower(checkpoint, found, hidden)
    return SpeechModelSpec(
        family="wavllm",
        decoder=_decoder(tower.wave_encoder.fusion, hidden),
        encoder=tower.encoder,
        front_end=tower.front_end,
        prompt=None,
        eos_token_ids=(),
        notes=tuple(found.notes),
        wave_encoder=tower.wave_encoder,
    )


def _decoder(some: Linear, hidden: int) -> DecoderSpec:
    return DecoderSpec(
        dims=DecoderDims(1, hidden, 1, 1, 16, 16, 16),
        norm_eps=1e-6,
        rope_theta=1e4,
        attention_scale=0.25,
        max_positions=2048,
        embedding=some.weight,
        layers=(),
        final_norm=some.weight,
        head=replace(some, bias=None),
    )
