"""Families whose encoders cut audio into pieces: published settings, prompts, and what is refused."""

from __future__ import annotations

import json
import shutil

import pytest
from transformers.models.glmasr.configuration_glmasr import GlmAsrEncoderConfig

from chunk_checkpoints import SAVE
from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.checkpoint.config_alone import ConfigAlone
from fastadasp.export.checkpoint.tokenizer import prompt_codec
from fastadasp.export.model.families.family import load_model
from fastadasp.profiles.errors import CheckpointError, RequestError

RATE = 16000
OMNI = {
    "architectures": ["Qwen2_5OmniModel"],
    "model_type": "qwen2_5_omni",
    "enable_audio_output": True,
    "thinker_config": {
        "model_type": "qwen2_5_omni_thinker",
        "audio_token_index": 151646,
        "image_token_index": 151655,
        "audio_config": {
            "model_type": "qwen2_5_omni_audio_encoder",
            "d_model": 1280,
            "encoder_attention_heads": 20,
            "encoder_ffn_dim": 5120,
            "encoder_layers": 32,
            "num_mel_bins": 128,
            "output_dim": 3584,
        },
        "text_config": {
            "model_type": "qwen2_5_omni_text",
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "num_hidden_layers": 28,
            "vocab_size": 152064,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1000000,
            "rope_scaling": {"mrope_section": [16, 24, 24], "rope_type": "default", "type": "default"},
            "tie_word_embeddings": False,
        },
        "vision_config": {"model_type": "qwen2_5_omni_vision_encoder", "depth": 32},
    },
    "talker_config": {"model_type": "qwen2_5_omni_talker"},
    "token2wav_config": {"model_type": "qwen2_5_omni_token2wav"},
}
ASR_AUDIO = {
    "model_type": "qwen3_asr_audio_encoder",
    "num_mel_bins": 128,
    "downsample_hidden_size": 480,
    "n_window": 50,
    "n_window_infer": 800,
    "conv_chunksize": 500,
    "max_source_positions": 1500,
    "activation_function": "gelu",
    "scale_embedding": False,
}
ASR_TEXT = {
    "model_type": "qwen3",
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 65536,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000,
    "rope_scaling": {
        "interleaved": True,
        "mrope_interleaved": True,
        "mrope_section": [24, 20, 20],
        "rope_type": "default",
        "type": "default",
    },
    "tie_word_embeddings": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "moe_intermediate_size": 768,
    "norm_topk_prob": True,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "output_router_logits": False,
    "router_aux_loss_coef": 0.001,
}


def asr(audio, text):
    """Settings in the layout that was published first."""
    thinker = {"audio_config": {**ASR_AUDIO, **audio}, "text_config": {**ASR_TEXT, **text}}
    return {"model_type": "qwen3_asr", "thinker_config": thinker}


SMALL_ASR = asr(
    {
        "d_model": 896,
        "encoder_layers": 18,
        "encoder_attention_heads": 14,
        "encoder_ffn_dim": 3584,
        "output_dim": 1024,
    },
    {"hidden_size": 1024, "intermediate_size": 3072},
)
HF_ASR = {
    "model_type": "qwen3_asr",
    "audio_config": SMALL_ASR["thinker_config"]["audio_config"]
    | {"model_type": "qwen3_asr_encoder", "num_key_value_heads": 14},
    "text_config": SMALL_ASR["thinker_config"]["text_config"],
    "tie_word_embeddings": True,
}
LARGE_ASR = asr(
    {
        "d_model": 1024,
        "encoder_layers": 24,
        "encoder_attention_heads": 16,
        "encoder_ffn_dim": 4096,
        "output_dim": 2048,
    },
    {"hidden_size": 2048, "intermediate_size": 6144},
)
GLM = {
    "model_type": "glmasr",
    "audio_token_id": 59260,
    "audio_config": {
        "model_type": "glmasr_encoder",
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 20,
        "num_key_value_heads": 20,
        "max_position_embeddings": 1500,
        "num_mel_bins": 128,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
    },
    "text_config": {
        "model_type": "llama",
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "vocab_size": 59264,
        "eos_token_id": [59246, 59253, 59255],
    },
}
WHISPER = {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 128}
PUBLISHED = {
    "Qwen2.5-Omni-7B": (OMNI, {**WHISPER, "chunk_length": 300}, (3584, 28, 28, 4, 128), 750, 300, ()),
    "Qwen3-ASR-0.6B": (SMALL_ASR, WHISPER, (1024, 28, 16, 8, 128), 390, None, (151643, 151645)),
    "Qwen3-ASR-1.7B": (LARGE_ASR, WHISPER, (2048, 28, 16, 8, 128), 390, None, (151643, 151645)),
    "Qwen3-ASR-0.6B-hf": (HF_ASR, WHISPER, (1024, 28, 16, 8, 128), 390, None, (151643, 151645)),
    "GLM-ASR-Nano": (GLM, WHISPER, (2048, 28, 16, 4, 128), 375, 630, (59246, 59253, 59255)),
}
"""Name -> config, extractor, sizes of the decoder, rows of 30 s, the longest audio in seconds, end tokens."""


def described(folder, config, extractor=None):
    """The model of settings alone."""
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    if extractor:
        (folder / "preprocessor_config.json").write_text(json.dumps(extractor), "utf-8")
    return load_model(ConfigAlone(folder))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_settings_are_read(tmp_path, name):
    config, extractor, sizes, rows, longest, ends = PUBLISHED[name]
    model = described(tmp_path, config, extractor)
    dims, front_end = model.decoder.dims, model.front_end
    assert (dims.hidden_size, dims.num_layers, dims.num_heads, dims.num_kv_heads, dims.head_dim) == sizes
    assert front_end.audio_tokens(30 * RATE) == rows
    assert front_end.longest_samples == (longest and longest * RATE)
    assert model.eos_token_ids == ends
    assert not [note for note in model.notes if "not known" in note]


def test_the_rates_hold_over_many_pieces(tmp_path):
    asr_model = described(tmp_path, SMALL_ASR, WHISPER)
    assert asr_model.front_end.audio_tokens(3600 * RATE) == 13 * 3600
    assert asr_model.front_end.seconds_of(65536) == pytest.approx(65536 / 13, abs=1)
    assert asr_model.front_end.audio_tokens(1) == asr_model.front_end.audio_tokens(RATE // 2) == 7
    assert asr_model.encoder.attention_rows == 104


@pytest.mark.parametrize(
    ("above", "within", "rotated"),
    [(None, None, 32), (0.25, None, 16), (None, 0.25, 16), (1.0, 0.25, 16), (1.0, None, 64)],
)
def test_the_share_that_is_rotated_may_stand_above_its_section_as_in_transformers(
    tmp_path, above, within, rotated
):
    share = {} if within is None else {"partial_rotary_factor": within}
    audio = GLM["audio_config"] | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, **share}}
    audio |= {} if above is None else {"partial_rotary_factor": above}
    model = described(tmp_path, GLM | {"audio_config": audio}, WHISPER)
    assert model.encoder.rotary.rotated == rotated
    theirs = GlmAsrEncoderConfig(**audio).rope_parameters["partial_rotary_factor"]
    assert rotated == int(64 * theirs)


CHANGES = [
    ("thinker", ("audio_config", "n_window"), 21, "n_window 21 must be even"),
    ("thinker", ("audio_config", "output_dim"), 32, r"output_dim 32 is not supported \(only 64\)"),
    ("qwen3_asr", ("audio_config", "n_window"), 40, "n_window 40 does not give the 13 rows"),
    ("qwen3_asr", ("audio_config", "n_window_infer"), 250, "n_window_infer 250 must be a multiple of 100"),
    ("qwen3_asr", ("audio_config", "activation_function"), "relu", "activation_function 'relu' is not"),
    (
        "glmasr",
        ("audio_config", "num_key_value_heads"),
        1,
        r"num_key_value_heads 1 is not supported \(only 2\)",
    ),
    ("glmasr", ("audio_config", "rope_parameters", "rope_type"), "yarn", "rope_type 'yarn' is not supported"),
    ("glmasr", ("whisper_config",), {}, "layout of the code that was published first"),
]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """By layout."""
    folders = {layout: tmp_path_factory.mktemp(layout) for layout in ("thinker", "qwen3_asr", "glmasr")}
    for layout, folder in folders.items():
        SAVE[layout](folder)
    return folders


@pytest.mark.parametrize(("layout", "path", "value", "message"), CHANGES)
def test_what_no_graph_does_is_refused_by_name(checkpoints, tmp_path, layout, path, value, message):
    folder = shutil.copytree(checkpoints[layout], tmp_path / "changed")
    config = section = json.loads((folder / "config.json").read_text("utf-8"))
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(CheckpointError, match=message):
        load_model(Checkpoint(folder))


def test_a_text_with_the_mark_of_an_image_is_refused(checkpoints):
    checkpoint = Checkpoint(checkpoints["thinker"])
    codec = prompt_codec(checkpoint, load_model(checkpoint).prompt)
    assert len(codec.encode("hello").after)
    for texts in (("see <|IMAGE|>", None), ("<|VIDEO|>", None), ("hello", "<|IMAGE|>")):
        with pytest.raises(RequestError, match="stands for an image or a video, which is not read here"):
            codec.encode(*texts)


def test_the_text_of_an_asr_request_begins_its_answer(checkpoints):
    prompt = load_model(Checkpoint(checkpoints["qwen3_asr"])).prompt
    assert prompt.template.endswith("<|im_start|>assistant\n{prompt}")
    assert prompt.system_template.startswith("<|im_start|>system\n{system}<|im_end|>")
    assert prompt.default_prompt == ""


def test_parts_that_speak_or_see_are_named(tmp_path):
    SAVE["omni"](tmp_path)
    notes = load_model(Checkpoint(tmp_path)).notes
    for part in ("the talker", "the vocoder", "the encoder of images and videos"):
        assert any(f"not read: {part}" in note for note in notes)
    assert not [note for note in notes if "no such part" in note]
