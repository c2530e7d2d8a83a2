"""Granite Speech: its own adapter is folded, and files that do not agree are refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from clip_checkpoints import save_granite_speech
from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.checkpoint.config_alone import ConfigAlone
from fastadasp.export.model.families.family import load_model
from fastadasp.export.model.survey import survey
from fastadasp.profiles.errors import CheckpointError

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:Setting `save_embedding_layers`")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("granite") / "plain"
    return folder, save_granite_speech(folder)


def changed(plain, folder, name="config.json", **changes):
    """A copy whose settings differ."""
    shutil.copytree(plain[0], folder, dirs_exist_ok=True)
    content = json.loads((folder / name).read_text("utf-8"))
    for key, value in changes.items():
        section, _, inner = key.partition("__")
        (content[section] if inner else content)[inner or section] = value
    (folder / name).write_text(json.dumps(content), "utf-8")
    return folder


@pytest.fixture(scope="module")
def with_adapter(plain, tmp_path_factory):
    """A folder with an adapter as the released ones have it, and the weights that peft merges it to."""
    folder = changed(plain, tmp_path_factory.mktemp("granite") / "adapted", has_lora_adapter=True)
    settings = LoraConfig(r=4, lora_alpha=8, target_modules=r".*language_model.*\.(q_proj|v_proj)")
    adapted = get_peft_model(save_granite_speech(folder.parent / "again"), settings)
    torch.manual_seed(1)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted.save_pretrained(folder)
    return folder, adapted.merge_and_unload().state_dict()


def test_the_adapter_of_the_folder_is_folded_as_peft_merges_it(plain, with_adapter):
    folder, merged = with_adapter
    bare = load_model(Checkpoint(plain[0])).decoder.layers
    for i, layer in enumerate(load_model(Checkpoint(folder)).decoder.layers):
        for name in ("query", "key", "value", "output"):
            part = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "o_proj"}[name]
            expected = merged[f"model.language_model.layers.{i}.self_attn.{part}.weight"].numpy()
            np.testing.assert_allclose(getattr(layer, name).weight.read(), expected, atol=1e-6)
            same = np.array_equal(getattr(bare[i], name).weight.read(), expected)
            assert same == (name in ("key", "output"))


def test_an_adapter_that_is_asked_for_and_not_there_is_refused(plain, tmp_path):
    folder = changed(plain, tmp_path / "asks", has_lora_adapter=True)
    with pytest.raises(
        CheckpointError, match=r"has_lora_adapter is true, and adapter_config\.json is missing"
    ):
        load_model(Checkpoint(folder))
    assert any("has_lora_adapter" in fault for fault in survey(folder).faults)


def test_a_config_that_does_not_say_whether_it_has_an_adapter_is_refused(plain, tmp_path):
    folder = changed(plain, tmp_path / "silent")
    content = json.loads((folder / "config.json").read_text("utf-8"))
    del content["has_lora_adapter"]
    (folder / "config.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(CheckpointError, match="has_lora_adapter is None, true or false is expected"):
        load_model(ConfigAlone(folder))


def test_the_settings_alone_are_described_without_an_adapter(plain, tmp_path):
    folder = changed(plain, tmp_path / "alone", has_lora_adapter=True)
    assert load_model(ConfigAlone(folder)).decoder.dims == load_model(Checkpoint(plain[0])).decoder.dims


@pytest.mark.parametrize(
    ("name", "changes", "fault"),
    [
        ("config.json", {"encoder_config__context_size": 1}, "context_size 1 must be above 1"),
        ("config.json", {"encoder_config__context_size": 26}, "at most max_pos_emb 25"),
        ("config.json", {"projector_config__hidden_act": "relu"}, "hidden_act 'relu' is not supported"),
        ("config.json", {"projector_config__use_qformer_text_input": True}, "use_qformer_text_input"),
        ("config.json", {"window_size": 16}, "window_size 16 is not divisible by downsample_rate 5"),
        ("config.json", {"encoder_config__input_dim": 80}, "160 numbers of two frames do not fit"),
        ("config.json", {"text_config__model_type": "llama"}, "model_type 'llama' is not supported"),
        ("preprocessor_config.json", {"projector_window_size": 30}, "projector_window_size 30 is not"),
        ("preprocessor_config.json", {"n_fft": 400}, "melspec_kwargs: n_fft is 512, but transformers takes"),
        ("preprocessor_config.json", {"win_length": 600}, "n_fft 512 must be even and at least win_length"),
    ],
)
def test_settings_that_no_graph_has_are_refused_by_name(plain, tmp_path, name, changes, fault):
    with pytest.raises(CheckpointError, match=fault):
        load_model(Checkpoint(changed(plain, tmp_path / "other", name, **changes)))


def test_prompts_come_from_the_chat_template_whose_messages_are_texts(plain):
    prompt = load_model(Checkpoint(plain[0])).prompt
    assert prompt.template == "<|im_start|>user {audio}{prompt}<|im_end|>\n<|im_start|>assistant "
    assert prompt.system_template.startswith(
        "<|im_start|>system {system}<|im_end|>\n<|im_start|>user {audio}"
    )


def test_a_template_that_writes_the_date_still_takes_a_system_text(plain, tmp_path):
    folder = tmp_path / "dated"
    shutil.copytree(plain[0], folder)
    (folder / "chat_template.jinja").write_text(
        "{%- if messages[0]['role'] != 'system' %}{{- strftime_now('%d') }}{%- endif %}"
        "{%- for message in messages %}"
        "{{- message['role'] + ': ' + message['content'] + '\n' }}{%- endfor %}",
        "utf-8",
    )
    model = load_model(Checkpoint(folder))
    assert model.prompt.template == "{audio}{prompt}"
    assert model.prompt.system_template == "system: {system}\nuser: {audio}{prompt}\n"
    assert any("it writes the date" in note for note in model.notes)
