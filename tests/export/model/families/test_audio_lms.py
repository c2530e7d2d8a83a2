"""Families of a Whisper encoder, a projector and a decoder: real settings, prompts, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.checkpoint.config_alone import ConfigAlone
from fastadasp.export.checkpoint.tokenizer import prompt_codec
from fastadasp.export.model.families.family import load_model
from fastadasp.profiles.errors import CheckpointError
from fastadasp.runtime.tables.artifact import longest_audio
from tiny_families import TINY

RATE = 16000
WHISPER = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "num_mel_bins": 128,
    "max_source_positions": 1500,
    "activation_function": "gelu",
    "scale_embedding": False,
}
VOXTRAL_TEXT = {
    "model_type": "llama",
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "head_dim": 128,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 131072,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e8,
    "rope_scaling": None,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "use_cache": True,
}
VOXTRAL = {
    "architectures": ["VoxtralForConditionalGeneration"],
    "model_type": "voxtral",
    "audio_token_id": 24,
    "projector_hidden_act": "gelu",
    "hidden_size": 3072,
    "vocab_size": 131072,
    "audio_config": {
        **WHISPER,
        "model_type": "voxtral_encoder",
        "head_dim": 64,
        "num_key_value_heads": 20,
        "vocab_size": 51866,
    },
    "text_config": {
        **VOXTRAL_TEXT,
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 30,
    },
}
VOXTRAL_SMALL = {
    **VOXTRAL,
    "hidden_size": 5120,
    "text_config": {
        **VOXTRAL_TEXT,
        "hidden_size": 5120,
        "intermediate_size": 32768,
        "num_hidden_layers": 40,
    },
}
FLAMINGO = {
    "architectures": ["AudioFlamingo3ForConditionalGeneration"],
    "model_type": "audioflamingo3",
    "audio_token_id": 151669,
    "projector_hidden_act": "gelu",
    "projector_bias": True,
    "audio_config": {**WHISPER, "model_type": "audioflamingo3_encoder", "layerdrop": 0.0},
    "text_config": {
        "model_type": "qwen2",
        "hidden_act": "silu",
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 151672,
        "max_position_embeddings": 32768,
        "model_max_length": 32768,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"},
        "layer_types": ["full_attention"] * 28,
        "sliding_window": None,
        "use_cache": False,
        "bos_token_id": 151670,
        "eos_token_id": 151645,
        "pad_token_id": 151671,
    },
}
EXTRACTOR = {
    "feature_extractor_type": "WhisperFeatureExtractor",
    "chunk_length": 30,
    "feature_size": 128,
    "hop_length": 160,
    "n_fft": 400,
    "sampling_rate": 16000,
    "padding_value": 0.0,
    "dither": 0.0,
}


def described(folder: Path, config, **files):
    """A model of settings alone, without a note."""
    for name, content in {"config": config, "preprocessor_config": EXTRACTOR, **files}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    model = load_model(ConfigAlone(folder))
    assert model.notes == ()
    return model


@pytest.mark.parametrize(
    ("config", "layers", "hidden", "theta"), [(VOXTRAL, 30, 3072, 1e8), (VOXTRAL_SMALL, 40, 5120, 1e8)]
)
def test_the_settings_of_voxtral_are_read(tmp_path, config, layers, hidden, theta):
    model = described(tmp_path, config, generation_config={"bos_token_id": 1, "eos_token_id": 2})
    dims, front_end = model.decoder.dims, model.front_end
    assert (dims.num_layers, dims.hidden_size, dims.num_kv_heads, dims.head_dim) == (layers, hidden, 8, 128)
    assert (model.decoder.rope_theta, model.decoder.max_positions) == (theta, 131072)
    assert dims.query_width == 4096  # of 24B, not as wide as its rows
    assert model.encoder.head.hidden.weight.shape == (hidden, 5120)
    assert model.eos_token_ids == (2,)
    assert [front_end.audio_tokens(round(s * RATE)) for s in (0.1, 30, 30.1, 61)] == [375, 375, 750, 1125]
    assert front_end.seconds_of(131072) == pytest.approx(349 * 30)


def test_the_settings_of_audio_flamingo_are_read(tmp_path):
    processor = {"max_audio_len": 600, "audio_token": "<sound>", "processor_class": "AudioFlamingo3Processor"}
    model = described(tmp_path, FLAMINGO, processor_config=processor)
    dims, front_end = model.decoder.dims, model.front_end
    assert (dims.num_layers, dims.hidden_size, dims.num_heads, dims.num_kv_heads) == (28, 3584, 28, 4)
    assert (dims.head_dim, model.decoder.rope_theta, model.decoder.max_positions) == (128, 1e6, 32768)
    assert model.eos_token_ids == (151645,)
    assert [front_end.audio_tokens(round(s * RATE)) for s in (0.1, 30, 45, 600)] == [2, 750, 1125, 15000]
    assert front_end.seconds_of(32768) == 600.0  # its positions would hold 1310 s
    assert longest_audio(front_end, 32768) == "600 s, all that the model hears at once (32768 positions)"
    assert longest_audio(front_end, 8192).endswith("(8192 positions), less prompt and new tokens")


def test_settings_by_the_names_of_whisper_are_the_same(tmp_path):
    names = {"hidden_size": "d_model", "num_hidden_layers": "encoder_layers"}
    names |= {"num_attention_heads": "encoder_attention_heads", "intermediate_size": "encoder_ffn_dim"}
    audio = {names.get(key, key): value for key, value in FLAMINGO["audio_config"].items()}
    (tmp_path / "older").mkdir()
    assert described(tmp_path / "older", {**FLAMINGO, "audio_config": audio}).encoder.hidden_size == 1280
    clash = {**FLAMINGO, "audio_config": {**WHISPER, "model_type": "audioflamingo3_encoder", "d_model": 640}}
    with pytest.raises(CheckpointError, match="hidden_size is 1280, d_model 640: they must be equal"):
        described(tmp_path, clash)


@pytest.mark.parametrize(
    ("config", "changes", "fault"),
    [
        (VOXTRAL, {"projector_hidden_act": "relu"}, "projector_hidden_act 'relu' is not supported"),
        (VOXTRAL, {"audio_config": {**VOXTRAL["audio_config"], "intermediate_size": 5000}}, "whole rows of"),
        (VOXTRAL, {"text_config": {**VOXTRAL_TEXT, "model_type": "mistral"}}, "model_type 'mistral'"),
        (FLAMINGO, {"projector_bias": None}, "projector_bias is None, true or false is expected"),
        (FLAMINGO, {"audio_config": {"model_type": "whisper"}}, "model_type 'whisper' is not supported"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_not_supported_is_refused_by_name(tmp_path, config, changes, fault):
    with pytest.raises(CheckpointError, match=fault):
        described(tmp_path, {**config, **changes})


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        ({"max_audio_len": 29}, "max_audio_len is less than a window"),
        ({"max_audio_len": "ten"}, "max_audio_len is 'ten', a number above 0"),
        ({"default_transcription_prompt": 3}, "default_transcription_prompt is 3, a text is expected"),
    ],
    ids=str,
)
def test_a_processor_with_nonsense_is_refused(tmp_path, setting, fault):
    with pytest.raises(CheckpointError, match=fault):
        described(tmp_path, FLAMINGO, processor_config=setting)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    root = tmp_path_factory.mktemp("families")
    for name in ("voxtral", "audioflamingo3"):
        TINY[name].save(root / name)
    return root


def codec_of(folder):
    checkpoint = Checkpoint(folder)
    return prompt_codec(checkpoint, load_model(checkpoint).prompt)


def test_prompts_of_voxtral_are_those_of_mistral_common(saved):
    """Recorded from mistral-common 1.13 on its own vocabulary: the order of control tokens and texts."""
    codec = codec_of(saved / "voxtral")

    def text(words):
        return [40 + byte for byte in words.encode()]

    question, nothing = codec.encode("What is said?"), codec.encode()
    english = codec.encode("<s>[INST][BEGIN_AUDIO][AUDIO][/INST]lang:en[TRANSCRIBE]")
    assert [ids.before.tolist() for ids in (question, nothing, english)] == [[1, 3, 25]] * 3
    assert question.after.tolist() == [*text("What is said?"), 4]
    assert nothing.after.tolist() == [4, 34]
    assert english.after.tolist() == [4, *text("lang:en"), 34]


def test_a_request_without_a_text_to_audio_flamingo_is_a_transcription(saved):
    codec = codec_of(saved / "audioflamingo3")
    expected = codec.encode("Transcribe the input speech.")
    assert codec.encode().after.tolist() == expected.after.tolist()
    assert codec.encode("x").after.tolist() != expected.after.tolist()


def test_a_tokenizer_without_a_control_token_is_refused(saved, tmp_path):
    folder = Path(shutil.copytree(saved / "voxtral", tmp_path / "voxtral"))
    path = folder / "tekken.json"
    path.write_text(path.read_text().replace("[TRANSCRIBE]", "[OTHER]"))
    with pytest.raises(CheckpointError, match=r"tekken\.json: the token \[TRANSCRIBE\] is missing"):
        load_model(Checkpoint(folder))


def test_an_audio_token_of_another_name_is_refused(saved, tmp_path):
    folder = Path(shutil.copytree(saved / "audioflamingo3", tmp_path / "flamingo"))
    path = folder / "processor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "audio_token": "<noise>"}))
    with pytest.raises(CheckpointError, match="audio_token is '<noise>', but"):
        load_model(Checkpoint(folder))
