"""The names that transformers takes for the sizes of a Whisper-like encoder."""

from __future__ import annotations

import json

import pytest
import transformers
from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniAudioEncoderConfig

from fastadasp.export.checkpoint.config_alone import ConfigAlone
from fastadasp.export.model.families.family import load_model
from fastadasp.profiles.errors import CheckpointError

SIZES = {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 6, "intermediate_size": 160}
CLASSES = {
    "qwen2_audio": transformers.Qwen2AudioEncoderConfig,
    "qwen3_asr": transformers.Qwen3ASREncoderConfig,
    "qwen2_5_omni_thinker": Qwen2_5OmniAudioEncoderConfig,
}


def described(folder, model_type, audio):
    """The model of settings alone."""
    text = {"num_hidden_layers": 2, "num_attention_heads": 28, "num_key_value_heads": 4, "hidden_size": 3584}
    config = {"model_type": model_type, "audio_config": audio, "text_config": text}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    (folder / "preprocessor_config.json").write_text("{}")
    return load_model(ConfigAlone(folder))


@pytest.mark.parametrize("model_type", CLASSES)
def test_sizes_may_have_the_names_of_other_encoders_as_in_transformers(tmp_path, model_type):
    model = described(tmp_path, model_type, SIZES)
    encoder, config = model.encoder, CLASSES[model_type](**SIZES)
    layer = encoder.layers[0]
    assert (encoder.hidden_size, encoder.num_heads) == (config.d_model, config.encoder_attention_heads)
    assert len(encoder.layers) == config.encoder_layers
    assert layer.fc1.weight.shape == (config.encoder_ffn_dim, config.d_model)
    assert not [note for note in model.notes if "audio_config" in note]


@pytest.mark.parametrize("model_type", CLASSES)
def test_two_names_of_a_size_with_two_values_are_refused(tmp_path, model_type):
    with pytest.raises(CheckpointError, match="encoder_layers is 2, num_hidden_layers 3: they must be equal"):
        described(tmp_path, model_type, {**SIZES, "encoder_layers": 2})
