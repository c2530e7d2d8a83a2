"""Every way in which a checkpoint may store its weights, against transformers reading the same files."""

import json
import shutil
from fractions import Fraction

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.export.reference.model import load_reference
from fastadasp.profiles.profile import Profile
from fastadasp.runtime import SpeechLM

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
