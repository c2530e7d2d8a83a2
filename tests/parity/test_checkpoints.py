"""Every way in which a checkpoint may store its weights, against transformers reading the same files."""

import json
import os
import shutil
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import WhisperFeatureExtractor

from fastadasp.export.check.check import check_artifact
from fastadasp.export.check.options import CheckOptions
from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.model.families.family import load_model
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.export.reference.model import load_reference
from fastadasp.profiles.errors import CheckpointError
from fastadasp.profiles.profile import Profile
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.artifact.artifact import open_artifact

from .conftest import FULL
from .models import AFTER, BEFORE, audio_rows, forced_logits, our_rows, reference_decoder, sound

ATOL = 5e-4  # of logits whose scale is 10; the error of the audio rows is part of it
REDUCED = Profile("reduced", "weighted_merge", "constant", 1, ratio=Fraction(1, 4))
TOKENS = [17, 91, 203, 150]


@pytest.fixture
def stored(checkpoint, tmp_path):
    """A copy of the checkpoint to be stored in another way."""
    return shutil.copytree(checkpoint, tmp_path / "checkpoint")


def assert_equals_transformers(folder, output, extractor, weights="link"):
    """Build, run from samples to logits, and compare; return the manifest."""
    manifest = build(folder, output, BuildOptions((FULL, REDUCED), weights=weights))
    theirs, ours = load_reference(folder), SpeechLM.load(output, threads=1)
    samples, vocab_size = sound(20000, seed=5), manifest.decoder.dims.vocab_size
    expected_rows, rows = audio_rows(theirs, extractor, samples), our_rows(ours, samples)
    for name, resolved in manifest.profiles.items():
        reference = reference_decoder(theirs, resolved, expected_rows)
        decoder = ours.decoder(name, BEFORE, rows, AFTER)
        expected, found = (forced_logits(one, TOKENS, vocab_size) for one in (reference, decoder))
        assert decoder.cache.prefix_lengths == reference.prefix_lengths
        np.testing.assert_allclose(found, expected, atol=ATOL, rtol=0)
    return manifest


def rewrite(folder, change):
    """Store the tensors of a single-file checkpoint anew, as `change` returns them."""
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


@pytest.mark.parametrize("weights", ["link", "copy"])
def test_a_sharded_checkpoint_keeps_its_files(model, stored, tmp_path, extractor, weights):
    (stored / "model.safetensors").unlink()
    model.save_pretrained(stored, max_shard_size="300KB")
    shards = sorted(path.name for path in stored.glob("*.safetensors"))
    manifest = assert_equals_transformers(stored, tmp_path / "artifact", extractor, weights)
    assert len(shards) > 2
    assert [name for name in manifest.files if name.startswith("weights/")] == [
        f"weights/{s}" for s in shards
    ]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_16_bit_weights_are_converted_without_loss(stored, tmp_path, extractor, dtype):
    rewrite(stored, lambda tensors: {name: tensor.to(dtype) for name, tensor in tensors.items()})
    manifest = assert_equals_transformers(stored, tmp_path / "artifact", extractor)
    assert manifest.weight_origins == ("converted",)


def test_tensors_of_several_types_are_converted_together(stored, tmp_path, extractor):
    def half(tensors):
        return {
            name: tensor.bfloat16() if "mlp" in name else tensor.half() if "conv" in name else tensor
            for name, tensor in tensors.items()
        }

    rewrite(stored, half)
    manifest = assert_equals_transformers(stored, tmp_path / "artifact", extractor)
    assert manifest.weight_origins == ("converted",)


def test_sharded_16_bit_weights_are_converted(stored, tmp_path, extractor):
    (stored / "model.safetensors").rename(tmp_path / "whole.safetensors")
    tensors = load_file(tmp_path / "whole.safetensors")
    weight_map = {name: f"part-{i % 3}.safetensors" for i, name in enumerate(sorted(tensors))}
    for shard in sorted(set(weight_map.values())):
        part = {name: tensors[name].bfloat16() for name in tensors if weight_map[name] == shard}
        save_file(part, stored / shard, metadata={"format": "pt"})
    (stored / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": weight_map})
    )
    manifest = assert_equals_transformers(stored, tmp_path / "artifact", extractor)
    assert manifest.weight_origins == ("converted",)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_head_that_is_not_stored_is_the_embedding(stored, tmp_path, extractor, dtype):
    rewrite(
        stored,
        lambda tensors: {
            name: tensor.to(dtype) for name, tensor in tensors.items() if not name.endswith("lm_head.weight")
        },
    )
    config = json.loads((stored / "config.json").read_text())
    config["text_config"]["tie_word_embeddings"] = True
    (stored / "config.json").write_text(json.dumps(config))
    assert_equals_transformers(stored, tmp_path / "artifact", extractor)


def test_a_head_that_is_stored_is_used_though_the_config_ties_it(stored, tmp_path, extractor):
    config = json.loads((stored / "config.json").read_text())
    config["text_config"]["tie_word_embeddings"] = True
    (stored / "config.json").write_text(json.dumps(config))
    assert_equals_transformers(stored, tmp_path / "artifact", extractor)


NEW = {"language_model.model.": "model.language_model.", "language_model.lm_head.": "lm_head."}
NEW |= {"audio_tower.": "model.audio_tower.", "multi_modal_projector.": "model.multi_modal_projector."}
BARE = {"language_model.model.": "language_model.", "language_model.lm_head.": "lm_head."}


def with_prefixes(tensors, prefixes):
    """Names as another version of transformers spells them."""
    renamed = {}
    for name, tensor in tensors.items():
        old = next((prefix for prefix in prefixes if name.startswith(prefix)), "")
        renamed[prefixes.get(old, "") + name.removeprefix(old)] = tensor
    return renamed


@pytest.mark.parametrize("prefixes", [NEW, BARE], ids=["new", "bare"])
def test_newer_names_of_tensors_are_loaded_in_place(stored, tmp_path, extractor, prefixes):
    rewrite(stored, lambda tensors: with_prefixes(tensors, prefixes))
    names = load_file(stored / "model.safetensors").keys()
    assert any(name.startswith(NEW["language_model.model."]) for name in names) == (prefixes is NEW)
    manifest = assert_equals_transformers(stored, tmp_path / "artifact", extractor)
    assert manifest.weight_origins == ("linked",)
    if prefixes is NEW:  # and the artifact's own reference finds its weights by these names
        options = CheckOptions(profiles=("full",))
        verdicts = check_artifact(open_artifact(tmp_path / "artifact"), options)
        assert verdicts
        assert all(verdict.finding.passed for verdict in verdicts)


def test_one_part_in_two_layouts_is_refused(stored):
    def twice(tensors):
        again = with_prefixes(tensors, {"audio_tower.": "model.audio_tower."})
        return tensors | {name: tensor.clone() for name, tensor in again.items()}

    rewrite(stored, twice)
    with pytest.raises(CheckpointError, match="are the same part in two layouts"):
        load_model(Checkpoint(stored))


def configure(folder, **values):
    """Change config.json; a name with a double underscore is that of a section and its key."""
    config = json.loads((folder / "config.json").read_text())
    for name, value in values.items():
        *sections, key = name.split("__")
        place = config
        for section in sections:
            place = place[section]
        place[key] = value
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_scaling": {"type": "linear", "factor": 2.0}},
        {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}},
        {"rope_parameters": {"type": "dynamic", "rope_theta": 10000.0}},
        {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
        {"rope_parameters": {"full_attention": {"rope_theta": 10000.0}}},
        {"rope_scaling": [2.0]},
    ],
    ids=str,
)
def test_a_rope_of_another_type_is_refused_by_either_key(stored, rope):
    configure(stored, **{f"text_config__{key}": value for key, value in rope.items()})
    with pytest.raises(CheckpointError, match=rf"config\.json: text_config: rope: {next(iter(rope))}: "):
        load_model(Checkpoint(stored))


def test_the_default_rope_may_be_given_by_its_older_key(stored):
    configure(stored, text_config__rope_scaling={"type": "default"}, text_config__rope_parameters=None)
    configure(stored, text_config__rope_theta=5000.0)
    assert load_model(Checkpoint(stored)).decoder.rope_theta == 5000.0


def test_the_audio_token_goes_by_two_names(stored):
    config = json.loads((stored / "config.json").read_text())
    token = config.pop("audio_token_index")
    (stored / "config.json").write_text(json.dumps(config | {"audio_token_id": token}))
    assert load_model(Checkpoint(stored)).prompt.audio_place.begin == "<|AUDIO|>"
    configure(stored, audio_token_index=token + 1)
    with pytest.raises(CheckpointError, match="audio_token_index is 4, audio_token_id 3: they must be equal"):
        load_model(Checkpoint(stored))


@pytest.mark.parametrize(
    "quantization",
    [
        {"quant_method": "gptq", "bits": 4},
        {"quant_method": "awq", "bits": 4},
        {"quant_method": "bitsandbytes", "load_in_4bit": True},
        {"quant_method": "fp8"},
    ],
    ids=lambda config: config["quant_method"],
)
def test_quantised_weights_are_refused_by_the_config(stored, quantization):
    configure(stored, quantization_config=quantization)
    method = quantization["quant_method"]
    with pytest.raises(
        CheckpointError, match=rf"quantization_config: quant_method {method}.*float checkpoint"
    ):
        load_model(Checkpoint(stored))


@pytest.mark.parametrize("end", ["qweight", "weight.absmax", "SCB", "weight_scale_inv", "scales"])
def test_quantised_weights_are_refused_by_the_names_of_tensors(stored, end):
    name = f"language_model.model.layers.0.mlp.up_proj.{end}"
    rewrite(stored, lambda tensors: tensors | {name: torch.zeros(4, dtype=torch.int32)})
    with pytest.raises(CheckpointError, match=rf"{name}: quantised weights are not read"):
        load_model(Checkpoint(stored))


@pytest.mark.parametrize("with_weights", [True, False])
def test_an_adapter_is_refused_beside_weights_and_instead_of_them(stored, with_weights):
    (stored / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    if not with_weights:
        (stored / "model.safetensors").unlink()
        (stored / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"adapter_config\.json is there: .*--lora"):
        load_model(Checkpoint(stored))


@pytest.mark.parametrize(
    ("section", "key", "count"),
    [("audio_config", "encoder_layers", 1), ("text_config", "num_hidden_layers", 3)],
)
def test_layers_that_the_config_does_not_count_are_refused(stored, section, key, count):
    configure(stored, **{f"{section}__{key}": count})
    if key == "num_hidden_layers":
        configure(stored, text_config__layer_types=["full_attention"] * count)
    with pytest.raises(CheckpointError, match=rf"{section}: {key} is {count}, but the checkpoint has .*more"):
        load_model(Checkpoint(stored))


def test_tensors_that_nothing_uses_are_named(stored, tmp_path, caplog):
    more = ("language_model.model.layers.0.self_attn.q_norm.weight", "talker.weight")
    known = "language_model.model.layers.0.self_attn.rotary_emb.inv_freq"
    rewrite(stored, lambda tensors: tensors | {name: torch.zeros(4) for name in (*more, known)})
    build(stored, tmp_path / "artifact", BuildOptions((FULL,)))
    (note,) = (note for note in caplog.messages if "tensors" in note)
    assert all(name in note for name in more)
    assert known not in note


def save_processor(folder, **changes):
    """Keep the front end as transformers 5 saves it: in processor_config.json alone."""
    extractor = WhisperFeatureExtractor(
        feature_size=128, chunk_length=2, return_attention_mask=True, **changes
    )
    content = {"processor_class": "Qwen2AudioProcessor", "feature_extractor": extractor.to_dict()}
    content["feature_extractor"].pop("mel_filters", None)
    content |= {f"{name}_token": f"<|{name}|>" for name in ("audio_bos", "audio_eos")}
    (folder / "processor_config.json").write_text(json.dumps(content | {"audio_token": "<|AUDIO|>"}))
    (folder / "preprocessor_config.json").unlink(missing_ok=True)
    return extractor


@pytest.mark.parametrize("n_fft", [400, 512])
def test_the_front_end_is_read_from_the_file_of_the_processor(stored, tmp_path, n_fft):
    extractor = save_processor(stored, n_fft=n_fft)
    manifest = assert_equals_transformers(stored, tmp_path / "artifact", extractor)
    assert manifest.front_end.log_mel.n_fft == n_fft
    assert load_model(Checkpoint(stored)).notes == ()


def change_extractor(folder, **values):
    content = json.loads((folder / "processor_config.json").read_text())
    content["feature_extractor"] |= values
    (folder / "processor_config.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"dither": 0.1, "padding_side": "left"},
            "dither 0.1 is not supported .*padding_side 'left' is not sup",
        ),
        ({"padding_value": 1.0}, "padding_value 1.0 is not supported"),
        ({"feature_extractor_type": "Other"}, "feature_extractor_type 'Other' is not supported"),
        ({"do_normalize": True}, "do_normalize True is not supported"),
        ({"hop_length": 320}, "100 frames a window do not fit the encoder"),
        ({"n_fft": "400"}, "n_fft is '400'"),
    ],
    ids=str,
)
def test_a_front_end_that_is_not_supported_is_refused_by_name(stored, values, message):
    save_processor(stored)
    change_extractor(stored, **values)
    with pytest.raises(CheckpointError, match=rf"processor_config\.json: feature_extractor: .*{message}"):
        load_model(Checkpoint(stored))


def test_two_front_ends_in_two_files_are_refused(stored):
    older = (stored / "preprocessor_config.json").read_text()
    save_processor(stored, n_fft=512)
    (stored / "preprocessor_config.json").write_text(older)
    with pytest.raises(CheckpointError, match=r"n_fft is 512, but 400 in preprocessor_config\.json"):
        load_model(Checkpoint(stored))
    change_extractor(stored, n_fft=400)
    assert load_model(Checkpoint(stored)).notes == ()


def test_a_processor_that_spells_audio_otherwise_is_refused(stored):
    save_processor(stored)
    path = stored / "processor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"audio_token": "<|SOUND|>"}))
    with pytest.raises(CheckpointError, match=r"audio_token is '<\|SOUND\|>', but config"):
        load_model(Checkpoint(stored))


def test_defaults_of_search_that_are_not_taken_are_named(stored):
    path = stored / "generation_config.json"
    given = {"do_sample": True, "repetition_penalty": 1.1, "top_k": 20, "top_p": 0.5, "temperature": 0.7}
    path.write_text(json.dumps(json.loads(path.read_text()) | given))
    model = load_model(Checkpoint(stored))
    (note,) = model.notes
    assert note.startswith(
        f"{path}: not taken from the checkpoint: do_sample True, temperature 0.7, top_k 20"
    )
    assert model.generation.given == {"repetition_penalty": 1.1}
    path.write_text(
        json.dumps({"do_sample": False, "repetition_penalty": 1.0, "top_k": 20, "eos_token_id": 2})
    )
    assert load_model(Checkpoint(stored)).notes == ()


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("dance", "config.json"),
        ("text_config__dance", "config.json: text_config"),
        ("audio_config__dance", "config.json: audio_config"),
        ("text_config__repetition_penalty", "config.json: text_config"),
    ],
)
def test_settings_that_are_not_used_are_named(stored, name, place):
    configure(stored, **{name: 1.5})
    (note,) = load_model(Checkpoint(stored)).notes
    assert f"{stored / place}: not " in note
    assert f"{name.split('__')[-1]} 1.5" in note


@pytest.mark.parametrize(
    "values", [{"layer_types": ["full_attention", "sliding_attention"] * 2}, {"use_mrope": True}], ids=str
)
def test_attention_of_another_kind_is_refused_by_name(stored, values):
    configure(stored, **{f"text_config__{key}": value for key, value in values.items()})
    with pytest.raises(CheckpointError, match=rf"text_config: {next(iter(values))} .*supported"):
        load_model(Checkpoint(stored))


def test_the_checkpoint_of_these_tests_leaves_nothing_unused(checkpoint):
    assert load_model(Checkpoint(checkpoint)).notes == ()


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes on Linux")
def test_a_folder_whose_name_is_not_utf_8_is_read(stored, tmp_path):
    folder = stored.rename(tmp_path / os.fsdecode(b"checkpoint-\xff"))
    assert load_model(Checkpoint(folder)).prompt.audio_place.begin == "<|AUDIO|>"
