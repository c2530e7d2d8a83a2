"""Tiny random checkpoints of the families whose encoder hears a whole clip, with the files beside them."""

from __future__ import annotations

import json

import torch

from conftest import tiny_tokenizer

TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "bos_token_id": None,
}
AUDIO_TOKEN = 3  # <|AUDIO|> of the tokenizer
GRANITE_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + ' ' + message['content'] + '<|im_end|>\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant ' }}{%- endif %}"
)


def granite_speech_config(tokenizer, logits_scaling):
    from transformers import GraniteSpeechConfig

    encoder = {
        "input_dim": 160,
        "num_layers": 3,
        "hidden_dim": 32,
        "feedforward_mult": 2,
        "num_heads": 2,
        "dim_head": 12,
        "output_dim": 42,
        "context_size": 20,
        "max_pos_emb": 25,
        "conv_kernel_size": 7,
    }
    projector = {
        "model_type": "blip_2_qformer",
        "hidden_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "encoder_hidden_size": 32,
        "cross_attention_frequency": 2,
    }
    text = {
        **TEXT,
        "model_type": "granite",
        "vocab_size": len(tokenizer),
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.6,
        "attention_multiplier": 0.2,
        "logits_scaling": logits_scaling,
    }
    return GraniteSpeechConfig(
        encoder_config=encoder,
        projector_config=projector,
        text_config=text,
        audio_token_index=AUDIO_TOKEN,
        has_lora_adapter=False,
        tie_word_embeddings=False,
    )


def save_granite_speech(folder, seed=0, logits_scaling=1.0):
    """Model, tokenizer, chat template and the settings of the feature extractor."""
    from transformers import GraniteSpeechForConditionalGeneration

    tokenizer = tiny_tokenizer()
    torch.manual_seed(seed)
    model = GraniteSpeechForConditionalGeneration(granite_speech_config(tokenizer, logits_scaling)).eval()
    spread(model, seed)
    model.save_pretrained(folder)
    tokenizer.chat_template = GRANITE_TEMPLATE
    tokenizer.save_pretrained(folder)
    write_json(
        folder / "preprocessor_config.json",
        {
            "feature_extractor_type": "GraniteSpeechFeatureExtractor",
            "melspec_kwargs": {"hop_length": 160, "n_fft": 512, "n_mels": 80, "sample_rate": 16000},
            "processor_class": "GraniteSpeechProcessor",
            "projector_downsample_rate": 5,
            "projector_window_size": 15,
            "sampling_rate": 16000,
        },
    )
    return model


def write_json(path, content):
    path.write_text(json.dumps(content), "utf-8")


def spread(model, seed=0):
    """Every parameter and statistic anew, so that no weight is neutral and the audio decides the answer."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if "norm" in name.lower() and name.endswith("weight"):
                weight.copy_(1 + 0.25 * noise)
            elif weight.ndim > 1:
                scale = weight[0].numel() ** -0.5
                weight.copy_(noise * (1.0 if "embed" in name or name.endswith("query") else 1.5 * scale))
            else:
                weight.copy_(0.2 * noise)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(0.3 * torch.randn(buffer.shape, generator=generator))
            elif name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))


FUN_ASR_TEMPLATE = (
    "{%- for message in messages %}{{- '<|im_start|>' + message['role'] + ' ' }}"
    "{%- for part in message['content'] %}"
    "{%- if part['type'] == 'audio' %}{{- '<|AUDIO|>' }}{%- else %}{{- part['text'] }}{%- endif %}"
    "{%- endfor %}{{- '<|im_end|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant ' }}{%- endif %}"
)


def save_fun_asr_nano(folder, seed=0):
    """Model, tokenizer, chat template and the settings of the feature extractor."""
    from transformers import FunAsrNanoConfig, FunAsrNanoForConditionalGeneration

    tokenizer = tiny_tokenizer()
    audio = {
        "num_mel_bins": 80,
        "hidden_size": 32,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_timestamp_prediction_layers": 1,
        "max_position_embeddings": 121,
        "fsmn_kernel_size": 6,
    }
    adaptor = {
        "hidden_size": 64,
        "num_attention_heads": 4,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "projector_hidden_size": 40,
    }
    text = {**TEXT, "model_type": "qwen3", "head_dim": 24, "vocab_size": len(tokenizer)}
    config = FunAsrNanoConfig(
        audio_config=audio,
        adaptor_config=adaptor,
        text_config=text,
        audio_token_id=AUDIO_TOKEN,
        tie_word_embeddings=False,
    )
    torch.manual_seed(seed)
    model = FunAsrNanoForConditionalGeneration(config).eval()
    spread(model, seed)
    model.save_pretrained(folder)
    tokenizer.chat_template = FUN_ASR_TEMPLATE
    tokenizer.save_pretrained(folder)
    extractor = {
        "feature_extractor_type": "FunAsrNanoFeatureExtractor",
        "feature_size": 80,
        "frame_length": 25,
        "frame_shift": 10,
        "num_frames_lfr": 7,
        "stride_lfr": 6,
        "sampling_rate": 16000,
    }
    write_json(folder / "processor_config.json", {"feature_extractor": extractor})
    return model


def clip_inputs(model, folder, samples, prompt):
    """What `generate` takes for a clip, as the processors make it, which ask for torchaudio."""
    from transformers import AutoTokenizer

    from fastadasp.export.checkpoint.checkpoint import Checkpoint
    from fastadasp.export.model.families.family import load_model

    tokenizer = AutoTokenizer.from_pretrained(folder)
    described = load_model(Checkpoint(folder))
    parts = [{"type": "audio"}, {"type": "text", "text": prompt}]
    content = parts if described.family == "fun_asr_nano" else f"<|AUDIO|>{prompt}"
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    before, after = (
        tokenizer(part, add_special_tokens=False)["input_ids"] for part in text.split("<|AUDIO|>")
    )
    return clip_tensors(described.family, described.front_end, samples, before, after)


def clip_tensors(family, front_end, samples, before, after):
    """Ids with a placeholder for each row of audio, and the features of the clip."""
    from fastadasp.runtime.audio.features import feature_windows

    window, count = next(feature_windows(samples, front_end.log_mel)), front_end.audio_tokens(len(samples))
    ids = torch.tensor([[*before, *[AUDIO_TOKEN] * count, *after]])
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "input_features": torch.as_tensor(window.mel.T.copy())[None],
        "input_features_mask": torch.ones(
            1, count, dtype=torch.long if family == "fun_asr_nano" else torch.bool
        ),
    }


SAVE = {"granite_speech": save_granite_speech, "fun_asr_nano": save_fun_asr_nano}
"""Family -> what writes a checkpoint of it and gives the model."""
