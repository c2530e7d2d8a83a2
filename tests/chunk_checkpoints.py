"""Tiny random checkpoints of the families whose encoders cut audio into pieces, as their users save them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

RATE = 16000
Inputs = Mapping[str, Any]
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "bos_token_id": None,
}
AUDIO = {
    "d_model": 32,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "num_mel_bins": 128,
}
VISION = {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 64}
TOKENS = {
    "qwen2_5_omni": (
        "<|AUDIO|>",
        "<|audio_bos|>",
        "<|audio_eos|>",
        "<|IMAGE|>",
        "<|VIDEO|>",
        "<|vision_bos|>",
    ),
    "qwen3_asr": ("<|audio_pad|>", "<|audio_start|>", "<|audio_end|>"),
    "glmasr": ("<|pad|>", "<|begin_of_audio|>", "<|end_of_audio|>", "<|user|>", "<|assistant|>"),
}
"""Family -> what its tokenizer has beside the marks of a conversation; the first stands for audio."""

CHATML = (
    "{% for m in messages %}{% if loop.first and m.role != 'system' %}<|im_start|>system\nYou are helpful."
    "<|im_end|>\n{% endif %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for c in m.content %}{% if c.type == 'audio' %}BEGINAUDIOEND{% elif c.type == 'text' %}{{ c.text }}"
    "{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>"
    "assistant\n{% endif %}"
)
ASR = (
    "{% set ns = namespace(system='') %}{% for m in messages %}{% if m.role == 'system' %}{% if m.content is "
    "string %}{% set ns.system = m.content %}{% else %}{% set ns.system = m.content[0].text %}{% endif %}"
    "{% endif %}{% endfor %}<|im_start|>system\n{{ ns.system }}<|im_end|>\n<|im_start|>user\nBEGINAUDIOEND"
    "<|im_end|>\n{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GLM = (
    "{% for m in messages %}<|user|>\n{% for c in m.content %}{% if c.type == 'audio' %}BEGINAUDIOEND<|user|>"
    "\n{% elif c.type == 'text' %}{{ c.text }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
TEMPLATES = {"qwen2_5_omni": CHATML, "qwen3_asr": ASR, "glmasr": GLM}


def template_of(family: str) -> str:
    """A chat template of its form, with the family's own marks around audio."""
    audio, begin, end = TOKENS[family][:3]
    return TEMPLATES[family].replace("BEGINAUDIOEND", f"{begin}{audio}{end}")


def tokenizer_of(family: str) -> Any:
    """Byte-level BPE of few tokens; `<|im_end|>` ends an answer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *TOKENS[family]]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=marks,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["hello world, transcribe the audio to the user"] * 4, trainer)
    names = dict(zip(("audio_token", "audio_bos_token", "audio_eos_token"), TOKENS[family], strict=False))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=template_of(family),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=names,
    )


def roughen(model: Any) -> None:
    """Draw every parameter anew, norms and biases included, so that no weight is neutral."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if name.endswith("weight") and any(part in name for part in ("norm", "ln_post")):
                weight.copy_(1 + 0.25 * noise)
            else:
                weight.copy_(noise if "embed_tokens" in name else 0.3 * noise)


def save_thinker(folder: Path) -> None:
    """Qwen2.5-Omni's thinker alone: chunks of 0.4 s, and an extractor that hears 40 s."""
    from transformers import (
        Qwen2_5OmniThinkerConfig,
        Qwen2_5OmniThinkerForConditionalGeneration,
        WhisperFeatureExtractor,
    )

    tokenizer = tokenizer_of("qwen2_5_omni")
    audio, begin, end, image, video, vision = tokenizer.convert_tokens_to_ids(list(TOKENS["qwen2_5_omni"]))
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}
    config = Qwen2_5OmniThinkerConfig(
        audio_config={**AUDIO, "max_source_positions": 100, "n_window": 20, "output_dim": 64},
        vision_config={**VISION, "fullatt_block_indexes": [0]},
        text_config={**TEXT, "vocab_size": len(tokenizer), "rope_parameters": rope},
        audio_token_index=audio,
        audio_start_token_id=begin,
        audio_end_token_id=end,
        image_token_index=image,
        video_token_index=video,
        vision_start_token_id=vision,
        pad_token_id=0,
    )
    extractor = WhisperFeatureExtractor(feature_size=128, chunk_length=40, return_attention_mask=True)
    _save(folder, Qwen2_5OmniThinkerForConditionalGeneration(config), tokenizer, extractor)


def save_omni(folder: Path) -> None:
    """The whole Qwen2.5-Omni around that thinker, whose other parts are here in name alone."""
    save_thinker(folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    tensors = {f"thinker.{name}": tensor for name, tensor in _tensors(folder).items()}
    tensors |= {
        "talker.model.layers.0.self_attn.q_proj.weight": torch.ones(2, 2),
        "token2wav.code2wav_bigvgan_model.conv_pre.bias": torch.ones(2),
    }
    whole = {
        "architectures": ["Qwen2_5OmniModel"],
        "model_type": "qwen2_5_omni",
        "enable_audio_output": True,
        "thinker_config": config,
        "talker_config": {"model_type": "qwen2_5_omni_talker"},
        "token2wav_config": {"model_type": "qwen2_5_omni_token2wav"},
    }
    _write(folder, whole, tensors)


def save_qwen3_asr(folder: Path) -> None:
    """Qwen3-ASR as transformers saves it: attention over 2 s."""
    from transformers import Qwen3ASRConfig, Qwen3ASRFeatureExtractor, Qwen3ASRForConditionalGeneration

    tokenizer = tokenizer_of("qwen3_asr")
    audio, begin, end = tokenizer.convert_tokens_to_ids(list(TOKENS["qwen3_asr"]))
    rope = {"rope_type": "default", "rope_theta": 1e6}
    windows = {"n_window": 50, "n_window_infer": 200, "output_dim": 64, "downsample_hidden_size": 8}
    config = Qwen3ASRConfig(
        audio_config={**AUDIO, **windows},
        text_config={
            **TEXT,
            "model_type": "qwen3",
            "vocab_size": len(tokenizer),
            "head_dim": 16,
            "rope_parameters": rope,
        },
        audio_token_id=audio,
        audio_start_token_id=begin,
        audio_end_token_id=end,
        pad_token_id=0,
        eos_token_id=2,
    )
    _save(folder, Qwen3ASRForConditionalGeneration(config), tokenizer, Qwen3ASRFeatureExtractor())


def save_first_qwen3_asr(folder: Path) -> None:
    """The same in the layout that was published first, with a feature extractor of Whisper."""
    from transformers import WhisperFeatureExtractor

    save_qwen3_asr(folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    names = {
        "model.multi_modal_projector.linear_1.": "thinker.audio_tower.proj1.",
        "model.multi_modal_projector.linear_2.": "thinker.audio_tower.proj2.",
        "model.audio_tower.": "thinker.audio_tower.",
        "model.language_model.": "thinker.model.",
        "lm_head.": "thinker.lm_head.",
    }
    tensors = {}
    for name, tensor in _tensors(folder).items():
        old = next(prefix for prefix in names if name.startswith(prefix))
        tensors[names[old] + name.removeprefix(old)] = tensor
    audio = {**config["audio_config"], "model_type": "qwen3_asr_audio_encoder", "conv_chunksize": 500}
    del audio["max_position_embeddings"]
    rope = {"rope_type": "default", "type": "default", "mrope_section": [2, 3, 3], "mrope_interleaved": True}
    text = {key: value for key, value in config["text_config"].items() if key != "rope_parameters"}
    text |= {"rope_scaling": rope, "rope_theta": 1e6, "model_type": "qwen3", "tie_word_embeddings": True}
    ids = {key: config[key] for key in ("audio_token_id", "audio_start_token_id", "audio_end_token_id")}
    thinker = {"model_type": "qwen3_asr_thinker", **ids, "audio_config": audio, "text_config": text}
    whole = {"model_type": "qwen3_asr", "support_languages": ["English"], "thinker_config": thinker}
    _write(folder, whole, tensors)
    WhisperFeatureExtractor(feature_size=128, return_attention_mask=True).save_pretrained(folder)


def save_glmasr(folder: Path) -> None:
    """GLM-ASR: windows of 2 s, of which its processor hears 3."""
    from transformers import GlmAsrConfig, GlmAsrForConditionalGeneration, WhisperFeatureExtractor

    tokenizer = tokenizer_of("glmasr")
    config = GlmAsrConfig(
        audio_config={
            "hidden_size": 32,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "num_mel_bins": 128,
            "max_position_embeddings": 100,
        },
        text_config={**TEXT, "model_type": "llama", "vocab_size": len(tokenizer), "head_dim": 16},
        audio_token_id=tokenizer.convert_tokens_to_ids("<|pad|>"),
    )
    extractor = WhisperFeatureExtractor(feature_size=128, chunk_length=2, return_attention_mask=True)
    _save(folder, GlmAsrForConditionalGeneration(config), tokenizer, extractor)
    processor = {
        "feature_extractor": extractor.to_dict(),
        "max_audio_len": 7,
        "default_transcription_prompt": "transcribe",
        "audio_token": "<|pad|>",
    }
    (folder / "processor_config.json").write_text(json.dumps(processor), "utf-8")


def omni_inputs(model: Any, folder: Path, samples: Any, prompt: str) -> Inputs:
    """What its processor, which would need one of images as well, makes of template and features."""
    from transformers import AutoFeatureExtractor, AutoTokenizer

    found = AutoFeatureExtractor.from_pretrained(folder)(
        samples, sampling_rate=RATE, padding="max_length", return_attention_mask=True, return_tensors="pt"
    )
    features, mask = found["input_features"], found["attention_mask"]
    tokenizer, audio = AutoTokenizer.from_pretrained(folder), TOKENS["qwen2_5_omni"][0]
    heard = [{"type": "audio", "audio": "clip.wav"}, {"type": "text", "text": prompt}]
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": heard}], add_generation_prompt=True, tokenize=False
    )
    count = ((int(mask.sum()) - 1) // 2 + 1 - 2) // 2 + 1
    ids = tokenizer(text.replace(audio, audio * count), return_tensors="pt")["input_ids"]
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "input_features": features,
        "feature_attention_mask": mask,
    }


def qwen3_asr_inputs(model: Any, folder: Path, samples: Any, prompt: str) -> Inputs:
    """Those of its processor, which has the answer begin with the text."""
    from transformers import AutoTokenizer, Qwen3ASRFeatureExtractor, Qwen3ASRProcessor

    processor = Qwen3ASRProcessor(
        Qwen3ASRFeatureExtractor.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
        chat_template=template_of("qwen3_asr"),
    )
    question = [{"role": "user", "content": [{"type": "audio", "audio": "clip.wav"}]}]
    text = processor.apply_chat_template(question, add_generation_prompt=True, tokenize=False)
    found: Inputs = processor(text=[text + prompt], audio=[samples], sampling_rate=RATE)
    return {name: value for name, value in found.items() if name != "num_audio_tokens"}


def glmasr_inputs(model: Any, folder: Path, samples: Any, prompt: str) -> Inputs:
    """Those of its processor."""
    from transformers import AutoTokenizer, GlmAsrProcessor, WhisperFeatureExtractor

    processor = GlmAsrProcessor(
        WhisperFeatureExtractor.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
        chat_template=template_of("glmasr"),
        max_audio_len=7,
    )
    heard = [{"type": "audio", "audio": "clip.wav"}, {"type": "text", "text": prompt}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": heard}], add_generation_prompt=True, tokenize=False
    )
    found: Inputs = processor(text=[text], audio=[samples], sampling_rate=RATE)
    return {name: value for name, value in found.items() if name != "num_audio_tokens"}


SAVE: dict[str, Callable[[Path], None]] = {
    "thinker": save_thinker,
    "omni": save_omni,
    "qwen3_asr": save_qwen3_asr,
    "first_qwen3_asr": save_first_qwen3_asr,
    "glmasr": save_glmasr,
}
"""Layout -> what writes a checkpoint in it."""

FAMILY = {
    "thinker": "qwen2_5_omni",
    "omni": "qwen2_5_omni",
    "qwen3_asr": "qwen3_asr",
    "first_qwen3_asr": "qwen3_asr",
    "glmasr": "glmasr",
}


def _save(folder: Path, model: Any, tokenizer: Any, extractor: Any) -> None:
    roughen(model.eval())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    extractor.save_pretrained(folder)


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / "model.safetensors"))


def _write(folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
