"""A build with an adapter has the weights that peft gives when it merges; what is no sum is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import Qwen2AudioForConditionalGeneration

from fastadasp.export.check.reference import load_for
from fastadasp.export.checkpoint.checkpoint import Checkpoint, Tensor
from fastadasp.export.checkpoint.derived import ADAPTED
from fastadasp.export.cli import main
from fastadasp.export.model.families.family import load_model
from fastadasp.export.model.lora.adapter import read_adapter
from fastadasp.export.model.lora.fold import with_adapter
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles.errors import CheckpointError
from fastadasp.profiles.profile import load_profile
from fastadasp.runtime.artifact.artifact import open_artifact
from fastadasp.runtime.tables.units import size

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # peft asks transformers by an old name
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`"),
]
DECODER = {"target_modules": r".*language_model.*\.(q_proj|v_proj|down_proj)"}
CONFIGS = {
    "decoder": DECODER,
    "everywhere": {"target_modules": ["q_proj", "k_proj", "fc1", "up_proj", "linear"]},
    "rank-stabilised": {**DECODER, "use_rslora": True, "r": 3},
    "patterns": {
        **DECODER,
        "rank_pattern": {"layers.1.self_attn.q_proj": 2, "v_proj": 5},
        "alpha_pattern": {r"layers\.[01]\.mlp\.down_proj": 64},
    },
    "saved": {**DECODER, "modules_to_save": ["linear"]},
    "biases": {"target_modules": ["q_proj"], "bias": "all"},
    "head": {"target_modules": ["q_proj", "lm_head"]},
    "table": {"target_modules": ["embed_tokens"]},
}


def save_adapter(base: Path, folder: Path, **settings: Any) -> dict[str, torch.Tensor]:
    """Write an adapter of random numbers, and give the weights that peft merges it to."""
    model = Qwen2AudioForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(**{"r": 4, "lora_alpha": 16, **settings}))
    torch.manual_seed(0)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted.save_pretrained(folder)
    return adapted.merge_and_unload().state_dict()


@pytest.fixture(scope="module")
def adapter(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of the decoder, to be copied before it is changed."""
    folder = tmp_path_factory.mktemp("adapter")
    save_adapter(tiny_checkpoint, folder, **DECODER)
    return folder


def own(adapter: Path, folder: Path, **settings: Any) -> Path:
    """A copy with other settings."""
    shutil.copytree(adapter, folder)
    config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    (folder / "adapter_config.json").write_text(json.dumps(config | settings), "utf-8")
    return folder


def folded(base: Path, adapter: Path) -> Any:
    checkpoint = Checkpoint(base)
    return with_adapter(load_model(checkpoint), checkpoint, read_adapter(adapter))


@pytest.mark.parametrize("name", CONFIGS)
def test_the_weights_are_those_that_peft_merges(tiny_checkpoint: Path, tmp_path: Path, name: str) -> None:
    merged = save_adapter(tiny_checkpoint, tmp_path / "adapter", **CONFIGS[name])
    wanted = {parts_of(key): value.numpy() for key, value in merged.items()}
    before = {weight.name: weight for weight in load_model(Checkpoint(tiny_checkpoint)).tensors}
    model = folded(tiny_checkpoint, tmp_path / "adapter")
    changed = {weight.name.removesuffix(ADAPTED): weight for weight in model.tensors}
    assert changed.keys() == before.keys()
    assert any(not isinstance(weight, Tensor) for weight in changed.values())
    for key, weight in changed.items():
        expected = wanted[parts_of(key)]
        np.testing.assert_allclose(weight.read(), expected, rtol=0, atol=2e-6, err_msg=key)
        assert isinstance(weight, Tensor) == np.array_equal(before[key].read(), expected), key


def parts_of(name: str) -> frozenset[str]:
    """What a name on disk and in memory have in common."""
    return frozenset(name.split(".")) - {"model", "language_model"}


def test_an_artifact_with_an_adapter_is_checked_against_the_merged_model(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    merged = save_adapter(tiny_checkpoint, tmp_path / "adapter", **CONFIGS["saved"])
    options = BuildOptions((load_profile("full"),), weights="copy", lora=tmp_path / "adapter")
    build(tiny_checkpoint, tmp_path / "artifact", options)
    reference = load_for(open_artifact(tmp_path / "artifact"), None)
    for name, tensor in reference.state_dict().items():
        torch.testing.assert_close(tensor, merged[name], rtol=0, atol=2e-6)


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_the_command_line_folds_an_adapter_and_check_agrees(
    tiny_checkpoint: Path, adapter: Path, tmp_path: Path, quantize: str | None
) -> None:
    artifact = tmp_path / "artifact"
    command = [
        "build",
        str(tiny_checkpoint),
        "-o",
        str(artifact),
        "--lora",
        str(adapter),
        "--profile",
        "full",
    ]
    form = ["--quantize", quantize] if quantize else []
    done = CliRunner().invoke(main, [*command, *form])
    assert done.exit_code == 0, done.output
    checked = CliRunner().invoke(main, ["check", str(artifact)])
    assert checked.exit_code == 0, checked.output


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"use_dora": True}, "use_dora: DoRA"),
        ({"peft_type": "LOHA"}, "peft_type is 'LOHA'"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights 'pissa_niter_4'"),
        ({"r": 5}, "not of rank 5"),
        ({"r": 0}, "r is 0"),
        ({"lora_alpha": "16"}, "lora_alpha is '16'"),
        ({"lora_alpha": float("nan")}, "lora_alpha is nan"),
        ({"rank_pattern": {"(": 4}}, "rank_pattern: '\\(' is no pattern"),
        ({"alpha_pattern": {"q_proj": None}}, "alpha_pattern is"),
        ({"layer_replication": [[0, 2]]}, "layer_replication: it repeats layers"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"lora_bias": True}, "lora_bias"),
    ],
)
def test_what_is_no_sum_of_matrices_is_refused(
    adapter: Path, tmp_path: Path, settings: dict[str, Any], fault: str
) -> None:
    with pytest.raises(CheckpointError, match=fault):
        read_adapter(own(adapter, tmp_path / "own", **settings))


def test_dora_is_known_by_its_tensors_too(tiny_checkpoint: Path, tmp_path: Path) -> None:
    save_adapter(tiny_checkpoint, tmp_path / "a", **DECODER, use_dora=True)
    with pytest.raises(CheckpointError, match=r"lora_magnitude_vector.*merge it with peft"):
        read_adapter(own(tmp_path / "a", tmp_path / "own", use_dora=False))


def test_a_pickled_adapter_is_refused(adapter: Path, tmp_path: Path) -> None:
    folder = own(adapter, tmp_path / "own")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(CheckpointError, match=r"adapter_model\.bin, which may run code and is not read"):
        read_adapter(folder)


def test_half_a_pair_is_refused(adapter: Path, tmp_path: Path) -> None:
    folder = own(adapter, tmp_path / "own")
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors.pop(next(name for name in tensors if "lora_B" in name))
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="lora_B is missing"):
        read_adapter(folder)


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        (lambda name, it: {}, "no tensor is there; save the adapter again"),
        (lambda name, it: {name.replace("lora_A", "lora_C"): it}, r"lora_C.* is of a form that is not known"),
        (lambda name, it: {name: it[..., None, None]}, r"are those of a convolution.*merge_and_unload"),
    ],
)
def test_tensors_that_are_no_pairs_of_matrices_are_refused(
    adapter: Path, tmp_path: Path, changed: Callable[[str, torch.Tensor], dict[str, torch.Tensor]], fault: str
) -> None:
    path = own(adapter, tmp_path / "own") / "adapter_model.safetensors"
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in load_file(path).items():
        tensors |= changed(name, tensor)
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=fault):
        read_adapter(path.parent)


def renamed(adapter: Path, folder: Path, old: str, new: str) -> Path:
    own(adapter, folder)
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file(
        {name.replace(old, new): it for name, it in tensors.items()}, folder / "adapter_model.safetensors"
    )
    return folder


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("layers.3.", "layers.9.", "changes .*layers.9.* which no tensor of"),
        ("self_attn.q_proj", "cross_attn.q_proj", "cross_attn.q_proj.* which no tensor of"),
        ("self_attn.q_proj", "self_attn.k_norm", "k_norm.* which no tensor of"),
        ("model.language_model.layers", "layers", "which no tensor of .* is, or more than one"),
        ("mlp.down_proj", "mlp.up_proj", r"adds a matrix .* the base model has"),
    ],
)
def test_another_base_model_is_refused(
    tiny_checkpoint: Path, adapter: Path, tmp_path: Path, old: str, new: str, fault: str
) -> None:
    with pytest.raises(CheckpointError, match=fault):
        folded(tiny_checkpoint, renamed(adapter, tmp_path / "own", old, new))


def test_resized_embeddings_are_refused(tiny_checkpoint: Path, adapter: Path, tmp_path: Path) -> None:
    folder = own(adapter, tmp_path / "own")
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors["base_model.model.lm_head.weight"] = torch.zeros(7, 64)
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="embeddings that were resized are not taken"):
        folded(tiny_checkpoint, folder)


def test_a_tied_head_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    base = tmp_path / "tied"
    shutil.copytree(tiny_checkpoint, base)
    config = json.loads((base / "config.json").read_text("utf-8"))
    config["text_config"]["tie_word_embeddings"] = config["tie_word_embeddings"] = True
    (base / "config.json").write_text(json.dumps(config), "utf-8")
    tensors = load_file(base / "model.safetensors")
    save_file({name: it for name, it in tensors.items() if "lm_head" not in name}, base / "model.safetensors")
    save_adapter(tiny_checkpoint, tmp_path / "adapter", **CONFIGS["table"])
    with pytest.raises(CheckpointError, match="embedding and head at once"):
        folded(base, tmp_path / "adapter")


def test_an_adapter_without_its_base_model_says_how_it_is_given(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="this is an adapter; give the folder of its base model"):
        Checkpoint(adapter)
    with pytest.raises(CheckpointError, match="no such folder"):
        read_adapter(tmp_path / "none")


@pytest.mark.parametrize("value", [float("nan"), 1e38])
def test_a_sum_that_is_not_finite_is_refused(
    tiny_checkpoint: Path, adapter: Path, tmp_path: Path, value: float
) -> None:
    folder = own(adapter, tmp_path / "own")
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors = {name: torch.full_like(it, value) if "q_proj" in name else it for name, it in tensors.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    options = BuildOptions((load_profile("full"),), weights="copy", lora=folder)
    with pytest.raises(CheckpointError, match=r"q_proj\.weight: the sum with the base model is not finite"):
        build(tiny_checkpoint, tmp_path / "artifact", options)
    assert not (tmp_path / "artifact").exists()


def test_an_adapted_artifact_is_not_compared_with_its_base_model(
    tiny_checkpoint: Path, adapter: Path, tmp_path: Path
) -> None:
    options = BuildOptions((load_profile("full"),), weights="copy", lora=adapter)
    build(tiny_checkpoint, tmp_path / "artifact", options)
    with pytest.raises(CheckpointError, match=r"an adapter is folded into .* without --checkpoint"):
        load_for(open_artifact(tmp_path / "artifact"), tiny_checkpoint)


def test_a_build_says_how_much_it_computed_beside_weights_that_are_linked(tiny_checkpoint, adapter, tmp_path):
    command = ["build", tiny_checkpoint, "-o", tmp_path / "ART", "--profile", "full", "--lora", adapter]
    command += ["--target", "onnxruntime-cuda", "--precision", "fp32"]
    result = CliRunner().invoke(main, list(map(str, command)))
    assert result.exit_code == 0, result.output
    (computed,) = (tmp_path / "ART/weights").glob("derived.*")
    written = size(computed.stat().st_size)
    assert f"no bytes copied; {written} computed and written beside them" in " ".join(result.output.split())
