"""The config.json that WavLLM's training checkpoint lacks: sizes from the shapes of its tensors, known facts.

Facts are those of microsoft/SpeechT5, folder WavLLM, at 5d66cf5, and of whisper-large-v2, WavLM base and
LLaMA-2-7B-chat, which it is made of. What neither tells, a caller's own settings may.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .....profiles.errors import CheckpointError
from .originals import Encode, Shapes

LLAMA, WHISPER, WAVLM = "gpt_model.model_llama", "audio_encoder.model", "wavlm_encoder.model"
MARK = f"{LLAMA}.tok_embeddings.weight"
WHISPER_HEAD, LLAMA_HEAD = 64, 128  # widths of an attention head in all models of that name
SAMPLES_PER_POSITION = 320  # of the Whisper encoder: hop 160, stride 2
BOS, EOS, PAD = 1, 2, 0
SYSTEM = (
    "As a helpful language and speech assistant, you are able to understand the speech content provided by "
    "the user, and assist the user with a variety of tasks using natural language."
)
LEFT = f"[INST]<<SYS>>\n{SYSTEM}\n<</SYS>>\n\n<SPEECH>"


def recognises(shapes: Shapes) -> bool:
    """Whether these are the tensors of a WavLLM."""
    return MARK in shapes


def config_of(shapes: Shapes, encode: Encode) -> dict[str, Any]:
    """The settings.

    Args:
        shapes: of every tensor, by name.
        encode: ids of a text, no others before or after them.

    Raises:
        CheckpointError: a tensor that tells a size is missing.
    """
    find = _Shapes(shapes)
    whisper = _whisper(find)
    return {
        "model_type": "wavllm",
        "architectures": ["WavLLMForConditionalGeneration"],
        "sampling_rate": 16000,
        "chunk_samples": whisper["max_source_positions"] * SAMPLES_PER_POSITION,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": PAD,
        "audio_rows_between": ["left", "right"],
        "whisper_config": whisper,
        "wavlm_config": _wavlm(find),
        **_audio_ends(find),
        "text_config": _text(find),
        "lora_config": {
            "r": find(f"{LLAMA}.layers.0.attention.wq_lora_A")[1],
            "target_modules": ["wq", "wk", "wv", "wo"],
            "scaling": "prompt_adapter",
        },
        "prompt_adapter": {
            "hidden_size": find(f"{LLAMA}.scale_fc_1.weight")[0],
            "activation": "gelu",
            "clamp_min": 0.0,
            "clamp_max": 3.0,
        },
        "prompt_template": {
            "left_text": LEFT,
            "left_add_bos": True,
            "left_token_ids": [BOS, *encode(LEFT)],
            "right_text": " </SPEECH> {prompt} [/INST]",
            "right_first_token_replaced_by_bos": True,
            "adapter_text": '"{prompt}"',
            "system_text": SYSTEM,
        },
        "generation": {
            "do_sample": True,
            "temperature": 0.5,
            "num_beams": 1,
            "max_new_tokens_including_right_prompt": 512,
            "suppress_tokens": [PAD],
            "suppress_eos_at_first_token": True,
        },
    }


class _Shapes:
    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes

    def __call__(self, *names: str) -> tuple[int, ...]:
        """The shape of the first tensor that is there."""
        found = next((self._shapes[name] for name in names if name in self._shapes), None)
        if found is None:
            raise CheckpointError(
                f"tensor {names[0]} is missing, which tells a size; take the whole checkpoint"
            )
        return found

    def count(self, prefix: str) -> int:
        """How many numbered parts begin so."""
        number = re.compile(re.escape(prefix) + r"(\d+)\.")
        return len({found[1] for name in self._shapes if (found := number.match(name))})


def _whisper(find: _Shapes) -> dict[str, Any]:
    width, bins, _ = find(f"{WHISPER}.conv1.weight")
    return {
        "model_type": "whisper",
        "d_model": width,
        "encoder_layers": find.count(f"{WHISPER}.layers."),
        "encoder_attention_heads": width // WHISPER_HEAD,
        "encoder_ffn_dim": find(f"{WHISPER}.layers.0.fc1.weight")[0],
        "num_mel_bins": bins,
        "max_source_positions": find(f"{WHISPER}.embed_positions.weight")[0],
        "activation_function": "gelu",
        "layer_norm_eps": 1e-5,
        "n_fft": 400,
        "hop_length": 160,
        "scale_embedding": False,
    }


def _wavlm(find: _Shapes) -> dict[str, Any]:
    layer, convolution = f"{WAVLM}.encoder.layers.0", f"{WAVLM}.encoder.pos_conv_embed.conv"
    extractor = f"{WAVLM}.feature_extractor.conv_layers."
    convolutions = [find(f"{extractor}{i}.conv.weight") for i in range(find.count(extractor))]
    width = find(f"{WAVLM}.feature_projection.projection.weight")[0]
    _, per_group, taps = find(f"{convolution}.weight_v", f"{convolution}.parametrizations.weight.original1")
    return {
        "model_type": "wavlm",
        "hidden_size": width,
        "num_hidden_layers": find.count(f"{WAVLM}.encoder.layers."),
        "num_attention_heads": find(f"{layer}.attention.gru_rel_pos_const")[1],
        "intermediate_size": find(f"{layer}.feed_forward.intermediate_dense.weight")[0],
        "conv_dim": [shape[0] for shape in convolutions],
        "num_conv_pos_embeddings": taps,
        "num_conv_pos_embedding_groups": width // per_group,
        "num_buckets": find(f"{layer}.attention.rel_attn_embed.weight")[0],
        "max_bucket_distance": 800,
        "conv_stride": [5, *(2 for _ in convolutions[1:])],
        "conv_kernel": [shape[2] for shape in convolutions],
        "conv_bias": False,
        "feat_extract_norm": "group",
        "feat_extract_activation": "gelu",
        "hidden_act": "gelu",
        "do_stable_layer_norm": False,
        "layer_norm_eps": 1e-5,
        "do_normalize": False,
    }


def _audio_ends(find: _Shapes) -> dict[str, Any]:
    """Sub-samplers, adapters and projectors of both branches."""
    branches: Mapping[str, str] = {"whisper": "audio_encoder", "wavlm": "wavlm_encoder"}
    subsample: dict[str, Any] = {"kernel_sizes": [3, 3], "stride": 2, "activation": "glu"}
    adapter: dict[str, Any] = {"activation": "gelu", "layer_norm_eps": 1e-5}
    projector: dict[str, Any] = {"concat_order": ["whisper", "wavlm"]}
    for name, base in branches.items():
        subsample[f"{name}_mid_channels"] = find(f"{base}.subsample.conv_layers.0.weight")[0]
        subsample[f"{name}_out_channels"] = find(f"{base}.subsample.conv_layers.1.weight")[0] // 2
        adapter[f"{name}_hidden_size"] = find(f"{base}.adapter.down_layer.weight")[0]
        projector[f"{name}_dim"] = find(f"{base}.projector.weight")[0]
    return {"subsample": subsample, "adapter": adapter, "projector": projector}


def _text(find: _Shapes) -> dict[str, Any]:
    vocabulary, hidden = find(MARK)
    heads = hidden // LLAMA_HEAD
    return {
        "model_type": "llama",
        "hidden_size": hidden,
        "num_hidden_layers": find.count(f"{LLAMA}.layers."),
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": LLAMA_HEAD,
        "intermediate_size": find(f"{LLAMA}.layers.0.feed_forward.w1.weight")[0],
        "vocab_size": vocabulary,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "rope_interleaved": True,
        "max_position_embeddings": 2048,
        "hidden_act": "silu",
        "attention_bias": False,
        "tie_word_embeddings": False,
    }
