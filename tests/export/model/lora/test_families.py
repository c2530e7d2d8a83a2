"""An adapter that peft trained on a model of any family is folded as peft merges it, under the names of old
and new versions of transformers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from clip_checkpoints import write_json
from fastadasp.export.adapt import load_adapted
from fastadasp.export.checkpoint.derived import ADAPTED
from fastadasp.export.model.families.family import reference_of
from fastadasp.export.model.lora.fold import OWN
from fastadasp.export.model.spec import SpeechModelSpec
from fastadasp.export.reference.dequantized import dequantized
from fastadasp.export.reference.model import load_reference
from fastadasp.profiles.json_text import read_object
from tiny_families import TINY

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # peft asks transformers by an old name
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`"),
    pytest.mark.filterwarnings("ignore:Could not find a config file"),  # of a model that has no folder
]
MODULES = ["q_proj", "o_proj", "v_proj", "gate_proj", "down_proj"]
"""Of every decoder here; encoders have some of them."""
PREFIXES = (
    "base_model.model.model.language_model.layers.",  # transformers 5
    "base_model.model.language_model.model.layers.",  # transformers 4
    "base_model.model.language_model.layers.",
)


@dataclass(frozen=True)
class Adapted:
    """A checkpoint, an adapter of it, and the weights that peft merges the two to."""

    family: str
    checkpoint: Path
    adapter: Path
    merged: dict[str, torch.Tensor]


@pytest.fixture(scope="module", params=TINY)
def adapted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adapted]:
    folder = tmp_path_factory.mktemp(request.param)
    TINY[request.param].save(folder / "checkpoint")
    merged = save_adapter(folder / "checkpoint", folder / "adapter")
    yield Adapted(request.param, folder / "checkpoint", folder / "adapter", merged)
    shutil.rmtree(folder)


def save_adapter(checkpoint: Path, folder: Path, seed: int = 0, **settings: Any) -> dict[str, torch.Tensor]:
    """Write an adapter of random numbers, and give what peft merges it to."""
    options = {"r": 4, "lora_alpha": 16, "target_modules": MODULES, **settings}
    model = get_peft_model(load_reference(checkpoint), LoraConfig(**options))
    torch.manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    merged: dict[str, torch.Tensor] = model.merge_and_unload().state_dict()
    return merged


def in_transformers(family: str, checkpoint: Path, model: SpeechModelSpec) -> dict[str, torch.Tensor]:
    """The weights of a described model, as the class of transformers holds them."""
    weights = {weight.name: torch.from_numpy(weight.read()) for weight in model.tensors}
    reference = reference_of(family)
    assert reference is not None
    config = read_object((checkpoint / "config.json").read_bytes(), lenient=True)
    return reference.of_tensors(config, dequantized(weights)).state_dict()


def test_the_weights_are_those_that_peft_merges(adapted: Adapted) -> None:
    _, model = load_adapted(adapted.checkpoint, adapted.adapter)
    found = in_transformers(adapted.family, adapted.checkpoint, model)
    before = load_reference(adapted.checkpoint).state_dict()
    heard = [name for name in found if "visual" not in name]  # which is left out, and random
    changed = [name for name in heard if not torch.equal(before[name], adapted.merged[name])]
    decoder = [name for name in changed if "language_model.layers." in name]
    assert len(decoder) == len(MODULES) * model.decoder.dims.num_layers
    for name in (*changed, *(name for name in found if "language_model" in name)):
        torch.testing.assert_close(found[name], adapted.merged[name], rtol=0, atol=2e-6, msg=name)
    (record,) = model.adapters
    assert (record.name, record.ranks, record.changed) == ("adapter", (4,), len(changed))


def test_names_of_other_versions_mean_the_same_tensors(adapted: Adapted, tmp_path: Path) -> None:
    tensors = load_file(adapted.adapter / "adapter_model.safetensors")
    decoder = {name: each for name, each in tensors.items() if name.startswith(PREFIXES[0])}
    changed = []
    for prefix in PREFIXES:
        shutil.copytree(adapted.adapter, tmp_path / "renamed", dirs_exist_ok=True)
        renamed = {name.replace(PREFIXES[0], prefix): each for name, each in decoder.items()}
        save_file(renamed, tmp_path / "renamed" / "adapter_model.safetensors")
        _, model = load_adapted(adapted.checkpoint, tmp_path / "renamed")
        changed.append({each.name for each in model.tensors if each.name.endswith(ADAPTED)})
    assert len(changed[0]) == len(MODULES) * model.decoder.dims.num_layers
    assert changed[0] == changed[1] == changed[2]


def test_an_adapter_comes_on_top_of_the_one_that_a_checkpoint_has_itself(tmp_path: Path) -> None:
    """As two active adapters of peft: W + s1 B1 A1 + s2 B2 A2."""
    family, base = "granite_speech", tmp_path / "base"
    TINY[family].save(base)
    plain = load_reference(base).state_dict()
    first = save_adapter(base, tmp_path / "first", r=2)
    second = save_adapter(base, tmp_path / "second", seed=1)
    config = read_object((base / "config.json").read_bytes(), lenient=True)
    write_json(base / "config.json", {**config, "has_lora_adapter": True})
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(tmp_path / "first" / name, base / name)
    _, model = load_adapted(base, tmp_path / "second")
    found = in_transformers(family, base, model)
    for name in (name for name in found if "language_model" in name):
        expected = first[name] + second[name] - plain[name]
        torch.testing.assert_close(found[name], expected, rtol=0, atol=4e-6, msg=name)
    assert [(each.name, each.ranks) for each in model.adapters] == [(OWN, (2,)), ("second", (4,))]
    assert f"adapter {tmp_path / 'second'} is added to {OWN}" in model.notes[-1]


def test_a_part_that_is_left_out_has_no_say_in_what_a_name_means(tmp_path: Path) -> None:
    """The talker of a Qwen2.5-Omni has layers of the names that the thinker's have."""
    TINY["qwen2_5_omni"].save(tmp_path / "base")
    save_adapter(tmp_path / "base", tmp_path / "adapter")
    _, model = load_adapted(tmp_path / "base", tmp_path / "adapter")
    names = {each.name for each in model.tensors if "layers.0.self_attn.q_proj" in each.name}
    assert f"thinker.model.layers.0.self_attn.q_proj.weight{ADAPTED}" in names
    assert not any(name.startswith("talker") for name in names)
