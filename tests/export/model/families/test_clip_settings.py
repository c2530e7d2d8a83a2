"""Settings of released models whose encoder hears whole clips, written from what public pages quote."""

from __future__ import annotations

import json
import math

import pytest
from transformers import AutoTokenizer

from clip_checkpoints import save_fun_asr_nano
from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.checkpoint.config_alone import ConfigAlone
from fastadasp.export.model.families.family import load_model
from fastadasp.runtime.artifact.prompt import filled

GRANITE_SPEECH_1B = {
    "model_type": "granite_speech",
    "audio_token_index": 100352,
    "downsample_rate": 5,
    "window_size": 15,
    "has_lora_adapter": False,
    "tie_word_embeddings": False,
    "encoder_config": {
        "model_type": "granite_speech_encoder",
        "input_dim": 160,
        "num_layers": 16,
        "hidden_dim": 1024,
        "output_dim": 348,
        "num_heads": 8,
        "dim_head": 128,
        "feedforward_mult": 4,
        "conv_expansion_factor": 2,
        "conv_kernel_size": 15,
        "context_size": 200,
        "max_pos_emb": 512,
    },
    "projector_config": {
        "model_type": "blip_2_qformer",
        "hidden_size": 1024,
        "encoder_hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 2,
        "num_attention_heads": 16,
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
        "cross_attention_frequency": 1,
        "max_position_embeddings": 2048,
        "use_qformer_text_input": False,
        "position_embedding_type": "absolute",
        "vocab_size": 30522,
    },
    "text_config": {
        "model_type": "granite",
        "vocab_size": 100353,
        "hidden_size": 2048,
        "intermediate_size": 4096,
        "num_hidden_layers": 40,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "rope_parameters": {"rope_theta": 10000, "rope_type": "default"},
        "bos_token_id": 100257,
        "eos_token_id": 100257,
        "pad_token_id": 100256,
        "embedding_multiplier": 12,
        "attention_multiplier": 0.0078125,
        "residual_multiplier": 0.22,
        "logits_scaling": 8,
    },
}
FUN_ASR_NANO = {
    "model_type": "fun_asr_nano",
    "audio_config": {
        "model_type": "fun_asr_nano_encoder",
        "num_mel_bins": 80,
        "num_stacked_frames": 7,
        "hidden_size": 512,
        "num_attention_heads": 4,
        "intermediate_size": 2048,
        "num_hidden_layers": 70,
        "num_timestamp_prediction_layers": 20,
        "fsmn_kernel_size": 11,
    },
    "adaptor_config": {
        "hidden_size": 1024,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "intermediate_size": 256,
        "projector_hidden_size": 2048,
    },
    "text_config": {
        "model_type": "qwen3",
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40960,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000,
        "vocab_size": 151936,
        "eos_token_id": 151645,
        "tie_word_embeddings": True,
    },
}

FUN_ASR_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}"
    "{% set texts = message['content'] | selectattr('type', 'equalto', 'text') | list %}"
    "{% if texts %}请结合上下文信息，更加准确地完成语音转写任务。如果没有相关信息，我们会留空。\n\n\n"
    "**上下文信息：**\n\n\n{% for item in texts %}{{ item['text'] }}\n{% endfor %}{% endif %}"
    "语音转写："
    "{% for item in message['content'] | selectattr('type', 'equalto', 'audio') %}<|AUDIO|>{% endfor %}"
    "{% endif %}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As published, without hotwords and languages, around the tiny tokenizer's token of audio."""


@pytest.fixture
def described(tmp_path):
    """A function that reads a config without weights."""

    def described(config):
        (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
        return load_model(ConfigAlone(tmp_path))

    return described


def test_granite_speech_of_one_billion(described):
    model = described(GRANITE_SPEECH_1B)
    decoder, encoder, front_end = model.decoder, model.encoder, model.front_end
    assert (decoder.dims.num_layers, decoder.dims.hidden_size, decoder.dims.head_dim) == (40, 2048, 128)
    assert (decoder.embedding_multiplier, decoder.residual_multiplier, decoder.logits_divisor) == (
        12,
        0.22,
        8,
    )
    assert (decoder.attention_scale, decoder.rope_theta) == (0.0078125, 10000)
    assert (len(encoder.layers), encoder.block, encoder.head_dim) == (16, 200, 128)
    assert (encoder.head.num_queries, len(encoder.head.layers), encoder.feedback.after_layer) == (3, 2, 8)
    assert front_end.audio_tokens(30 * 16000) == 300  # 10 a second
    assert front_end.seconds_of(decoder.max_positions) == pytest.approx(409.5, abs=0.5)
    assert front_end.longest_samples is None
    assert model.eos_token_ids == (100257,)
    assert not model.notes
    weights = sum(tensor.shape[0] * tensor.shape[1] for tensor in model.tensors if len(tensor.shape) == 2)
    assert 2.0e9 < weights < 2.4e9


def test_fun_asr_nano(described):
    model = described(FUN_ASR_NANO)
    front_end, encoder = model.front_end, model.encoder
    assert (len(encoder.layers), len(encoder.adaptor.layers), encoder.num_mel_bins) == (70, 2, 560)
    assert [i for i, layer in enumerate(encoder.layers) if layer.final_norm] == [49, 69]
    assert not encoder.layers[0].adds
    assert encoder.layers[1].adds
    assert (model.decoder.dims.head_dim, model.decoder.rope_theta) == (128, 1e6)
    assert front_end.audio_tokens(60 * 16000) == 1000  # 16.7 a second
    assert front_end.longest_samples / 16000 == pytest.approx(122.9, abs=0.05)
    assert model.eos_token_ids == (151645,)
    assert not model.notes
    parameters = sum(math.prod(tensor.shape) for tensor in model.tensors)
    assert parameters == pytest.approx(985.4e6, rel=1e-3)  # as published, with embedding and head


@pytest.mark.parametrize("text", [None, "names: Ada"])
def test_a_request_of_fun_asr_nano_is_the_one_that_its_processor_writes(tmp_path, text):
    save_fun_asr_nano(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(FUN_ASR_TEMPLATE, "utf-8")
    prompt = load_model(Checkpoint(tmp_path)).prompt
    content = [{"type": "audio"}, *([] if text is None else [{"type": "text", "text": text}])]
    expected = AutoTokenizer.from_pretrained(tmp_path).apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    template = prompt.bare_template if text is None else filled(prompt.template, {"{prompt}": text})
    assert template.replace("{audio}", "<|AUDIO|>") == expected
    assert prompt.asks_by_itself
