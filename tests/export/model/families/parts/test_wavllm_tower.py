"""What is read of the audio tower of WavLLM: its tables by definition, its lengths, and what is refused."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fastadasp.export.model.families.parts.wavlm import distance_buckets, folded_weight_norm
from fastadasp.profiles.errors import CheckpointError
from torch_tower import CONFIG, random_tower, save_tower
from tower_files import load_tower


@pytest.fixture(scope="module")
def tower():
    return random_tower()


@pytest.fixture
def folder(tower, tmp_path):
    save_tower(tmp_path / "checkpoint", tower)
    return tmp_path / "checkpoint"


def change_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(("num_buckets", "max_distance"), [(320, 800), (32, 60), (24, 40), (8, 3)])
def test_buckets_of_distances_are_those_of_the_library(num_buckets, max_distance):
    from transformers import WavLMConfig
    from transformers.models.wavlm.modeling_wavlm import WavLMAttention

    attention = WavLMAttention(16, 2, num_buckets=num_buckets, max_distance=max_distance)
    assert WavLMConfig().num_buckets == 320
    found, reach = distance_buckets(num_buckets, max_distance), max_distance
    relative = torch.arange(-3 * reach, 3 * reach + 1)
    want = attention._relative_positions_bucket(relative).numpy()
    np.testing.assert_array_equal(found[np.clip(relative.numpy(), -reach, reach) + reach], want)


def test_published_buckets():
    buckets = distance_buckets(320, 800)
    for distance, bucket in (
        (0, 0),
        (79, 79),
        (82, 80),
        (83, 81),
        (100, 87),
        (400, 135),
        (777, 158),
        (778, 159),
    ):
        assert buckets[800 - distance] == bucket
        assert buckets[800 + distance] == bucket + 160 * (distance > 0)


def test_the_weight_norm_is_of_each_tap():
    rng = np.random.default_rng(0)
    gain, direction = rng.standard_normal((1, 1, 5)), rng.standard_normal((6, 2, 5))
    folded = folded_weight_norm(gain.astype(np.float32), direction.astype(np.float32))
    for tap in range(5):
        want = gain[0, 0, tap] * direction[:, :, tap] / math.sqrt((direction[:, :, tap] ** 2).sum())
        np.testing.assert_allclose(folded[:, :, tap], want, atol=1e-6)


def test_the_front_end_follows_from_the_settings(folder):
    front_end = load_tower(folder).front_end
    assert front_end.log_mel.window_samples == CONFIG["chunk_samples"]
    assert (front_end.wave.first_samples, front_end.wave.step_samples) == (400, 320)
    assert front_end.wave.window_width == CONFIG["projector"]["whisper_dim"]


def test_every_tensor_is_used_or_known_not_to_be(folder):
    from fastadasp.export.checkpoint.checkpoint import Checkpoint

    checkpoint = Checkpoint(folder)
    import fastadasp.export.model.families.parts.wavllm_tower as family

    config = checkpoint.config
    settings = family.read_settings("config.json", config, 16000, config["chunk_samples"])
    family.read_tower(checkpoint, settings, config["text_config"]["hidden_size"])
    assert checkpoint.unused == ()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        (
            {"whisper_config__activation_function": "relu"},
            "whisper_config: activation_function 'relu' is not",
        ),
        ({"whisper_config__scale_embedding": True}, "scale_embedding True is not supported"),
        ({"whisper_config__layer_norm_eps": 1e-6}, "layer_norm_eps 1e-06 is not supported"),
        ({"whisper_config__max_source_positions": 64}, "20170 samples has 126 frames, which do not fill"),
        ({"whisper_config__encoder_attention_heads": 5}, "d_model 24 is not divisible by"),
        ({"whisper_config__n_fft": 401}, "n_fft 401 must be even"),
        ({"wavlm_config__do_stable_layer_norm": True}, "do_stable_layer_norm True is not supported"),
        ({"wavlm_config__feat_extract_norm": "layer"}, "feat_extract_norm 'layer' is not supported"),
        ({"wavlm_config__conv_bias": True}, "conv_bias True is not supported"),
        ({"wavlm_config__conv_dim": "wide"}, "conv_dim is 'wide', a list of whole numbers"),
        ({"wavlm_config__conv_stride": [5, 2]}, "conv_dim, conv_kernel and conv_stride differ in length"),
        ({"wavlm_config__num_buckets": 26}, "num_buckets 26 must be divisible by 4"),
        ({"wavlm_config__max_bucket_distance": 6}, "max_bucket_distance 6 above a quarter"),
        ({"wavlm_config__max_bucket_distance": 2**31}, "max_bucket_distance is 2147483648, .* at most 65536"),
        ({"wavlm_config__conv_stride": [5, 2, 2, 2, 2, 2000, 2]}, "samples, more than a window of 20170"),
        ({"subsample__activation": "relu"}, "subsample: activation 'relu' is not supported"),
        ({"subsample__stride": 3}, "subsample: stride 3 is not supported"),
        ({"subsample__wavlm_mid_channels": 15}, "wavlm_mid_channels 15 is odd"),
        ({"adapter__activation": "relu"}, "adapter: activation 'relu' is not supported"),
        ({"projector__concat_order": ["wavlm", "whisper"]}, "concat_order .* is not supported"),
        ({"projector__wavlm_dim": 0}, "wavlm_dim is 0, a whole number above 0 is expected"),
    ],
)
def test_a_setting_that_is_not_supported_is_refused(folder, changes, fault):
    with pytest.raises(CheckpointError, match=fault):
        load_tower(folder, **changes)


def test_unknown_settings_are_named(folder):
    assert load_tower(folder).notes == ()
    notes = load_tower(folder, adapter__dropout=0.1, wavlm_config__hidden_dropout=0.1).notes
    assert [note.partition("config.json: ")[2] for note in notes] == [
        "adapter: not known and not used: dropout 0.1"
    ]


def test_the_large_layout_is_refused_by_name(folder):
    name = "wavlm_encoder.model.feature_extractor.conv_layers.1.layer_norm.weight"
    change_tensors(folder, lambda tensors: tensors.update({name: torch.zeros(12)}))
    with pytest.raises(CheckpointError, match=r"conv_layers\.1\.layer_norm\.weight is part of WavLM large"):
        load_tower(folder)


@pytest.mark.parametrize(
    "name",
    [
        "wavlm_encoder.model.encoder.layers.0.attention.rel_attn_embed.weight",
        "wavlm_encoder.output_weights",
        "wavlm_audio_proj.weight",
        "audio_encoder.adapter.up_layer.bias",
        "audio_encoder.model.embed_positions.weight",
    ],
)
def test_a_missing_tensor_is_named(folder, name):
    change_tensors(folder, lambda tensors: tensors.pop(name))
    with pytest.raises(CheckpointError, match=f"tensor {name} is missing"):
        load_tower(folder)


def test_a_missing_weight_norm_is_named_as_it_was_spelled_first(folder):
    change_tensors(
        folder,
        lambda tensors: [tensors.pop(name) for name in [*tensors] if "parametrizations" in name],
    )
    with pytest.raises(CheckpointError, match=r"pos_conv_embed\.conv\.weight_g is missing"):
        load_tower(folder)


def test_real_sizes_are_read_without_their_weights(tmp_path):
    """12.5 rows a second and 30 s windows, from settings alone."""
    import fastadasp.export.model.families.parts.wavllm_tower as family
    from fastadasp.export.model.families.parts.settings import refuse_faults

    config = json.loads(json.dumps(CONFIG)) | {"chunk_samples": 480000}
    config["whisper_config"] |= {"d_model": 1280, "encoder_attention_heads": 20, "max_source_positions": 1500}
    config["whisper_config"] |= {"num_mel_bins": 80, "encoder_layers": 32, "encoder_ffn_dim": 5120}
    settings = family.read_settings("config.json", config, 16000, 480000)
    refuse_faults(*settings.sections)
    assert settings.front_end.log_mel.max_rows == settings.sizes.max_positions == 1500
    assert settings.front_end.audio_tokens(30 * 16000) == 375
