"""A family is a module and a row of the table, and costs nothing until its reference is loaded."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib import import_module

import pytest
from safetensors.numpy import save_file

from fastadasp.export.check.places import DECODER_PARTS, ENCODER_PARTS, KEYS_AND_VALUES, READ_BY
from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.model.families import family as table
from fastadasp.export.model.families.family import FAMILIES, families_with_reference, load_model, reference_of
from fastadasp.export.reference.model import load_reference
from fastadasp.profiles.errors import CheckpointError

CLIP_ENCODERS = ("granite_speech", "fun_asr_nano", "vibevoice_asr")
"""Whose parts have names of their own, which `test_clip_encoders.py` looks for."""


@pytest.mark.parametrize("name", FAMILIES.values())
def test_every_row_of_the_table_is_a_module_with_all_that_a_family_supplies(name):
    module = import_module(f".{name}", table.__package__)
    assert callable(module.load)
    assert reference_of(name) is module.REFERENCE


def test_a_model_bears_the_name_that_its_reference_is_found_by(tiny_checkpoint):
    assert load_model(Checkpoint(tiny_checkpoint)).family in FAMILIES.values()


def test_to_list_the_families_imports_neither_torch_nor_transformers():
    program = (
        "import sys\n"
        "from fastadasp.export.model.families.family import families_with_reference\n"
        "assert families_with_reference()\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", families_with_reference())
def test_a_reference_names_a_module_for_every_part_that_is_checked(name):
    reference = reference_of(name)
    encoder = {READ_BY.get(stem, stem) for _, stem, _ in ENCODER_PARTS if name not in CLIP_ENCODERS}
    decoder = {READ_BY.get(stem, stem) for part, stem, _ in DECODER_PARTS if part != KEYS_AND_VALUES}
    assert encoder <= set(reference.encoder.parts)
    assert decoder <= set(reference.decoder.parts)


def test_the_modules_that_are_named_exist(tiny_checkpoint):
    model, reference = load_reference(tiny_checkpoint), reference_of("qwen2_audio")
    for names in (reference.encoder, reference.decoder):
        parts = {*names.parts} - {"attn/q_norm", "attn/k_norm"}  # which Qwen2 has not
        for module in (names.final_norm, *(names.part(part, 1) for part in parts)):
            assert model.get_submodule(module) is not None


def test_a_family_without_a_model_in_transformers_has_no_reference(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen"}), "utf-8")
    save_file({}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="family qwen_audio has no model in transformers"):
        load_reference(tmp_path)


def test_a_family_of_two_kinds_of_checkpoint_is_listed_once():
    found = families_with_reference()
    assert "qwen2_5_omni" in found
    assert len(found) == len(set(found))


def test_an_unknown_family_has_no_reference():
    assert reference_of("os") is None


@pytest.mark.parametrize(("beside", "kept"), [(1, False), (2, True)])
def test_a_suggested_length_that_leaves_no_position_for_audio_is_left_out(
    tiny_checkpoint, tmp_path, beside, kept
):
    positions = load_model(Checkpoint(tiny_checkpoint)).decoder.max_positions
    folder = tmp_path / "checkpoint"
    shutil.copytree(tiny_checkpoint, folder)
    asked = positions - beside
    (folder / "generation_config.json").write_text(json.dumps({"max_new_tokens": asked}), "utf-8")
    model = load_model(Checkpoint(folder))
    assert model.generation.given == ({"max_new_tokens": asked} if kept else {})
    assert any(f"max_new_tokens {asked}" in note for note in model.notes) is not kept
