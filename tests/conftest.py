"""A tiny random Qwen2-Audio checkpoint, an artifact built from it, and clips, once for a session."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from demo_files import CLIPS

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as many threads as processes
for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):  # texts are as in a pipe
    os.environ.pop(name, None)
os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton; builds compile in other processes

settings.register_profile(
    "steady",
    deadline=None,  # however busy the machine is
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="FUZZ_EXAMPLES" not in os.environ,  # else a run may fail for what another one passed
)
settings.load_profile("steady")

WINDOW_SECONDS = 2
MAX_POSITIONS = 1024
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|AUDIO|>",
    "<|audio_bos|>",
    "<|audio_eos|>",
)
OWN_PROFILE = 'method = "weighted_merge"\nschedule = "constant"\nstart_layer = 1\nratio = 0.3\n'
TINY_PROFILES = ("full", "dense-constant-20", "own-30")


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `save_pretrained` writes it: 4 layers, 2 s encoder windows, 1024 positions, float32."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny-qwen2-audio"
    save_tiny_checkpoint(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_profile_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one profile of our own, `own-30`."""
    folder = tmp_path_factory.mktemp("profiles")
    (folder / "own-30.toml").write_text(OWN_PROFILE, "utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny_artifact(
    tiny_checkpoint: Path, tiny_profile_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An artifact of `tiny_checkpoint` with the profiles `TINY_PROFILES`. Copy it before changing a byte."""
    from fastadasp.export.options import BuildOptions
    from fastadasp.export.pipeline import build
    from fastadasp.profiles.profile import load_profile

    profiles = tuple(load_profile(name, (tiny_profile_folder,)) for name in TINY_PROFILES)
    output = tmp_path_factory.mktemp("artifact") / "tiny"
    build(tiny_checkpoint, output, BuildOptions(profiles, weights="copy"))
    return output


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of seeded sound, 16 kHz mono: a window and a half."""
    import soundfile

    path = tmp_path_factory.mktemp("audio") / "clip.wav"
    soundfile.write(path, noise(3.0), 16000)
    return path


@pytest.fixture(scope="session")
def demo_manifest() -> Path:
    """The clips of the demo with what is said in them."""
    return CLIPS


@pytest.fixture
def own_clips(demo_manifest: Path, tmp_path: Path) -> Path:
    """A copy of three clips and their lines, which a test may change."""
    folder = tmp_path / "clips"
    folder.mkdir()
    lines = [line for line in demo_manifest.read_text("utf-8").splitlines() if '"asr"' in line][:3]
    for line in lines:
        shutil.copy(CLIPS.parent / json.loads(line)["audio"], folder)
    (folder / "clips.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    return folder / "clips.jsonl"


def noise(seconds: float, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Seeded noise (seconds * 16000,) with a level of about 0.1."""
    samples = np.random.default_rng(seed).standard_normal(round(seconds * 16000))
    return (0.1 * samples).astype(np.float32)


def save_tiny_checkpoint(folder: Path, seed: int = 0) -> None:
    """Write model, tokenizer and feature extractor of a random Qwen2-Audio."""
    import torch
    from transformers import Qwen2AudioForConditionalGeneration, WhisperFeatureExtractor

    tokenizer = tiny_tokenizer()
    torch.manual_seed(seed)
    model = Qwen2AudioForConditionalGeneration(_config(tokenizer)).eval()
    _spread(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    extractor = WhisperFeatureExtractor(
        feature_size=128, chunk_length=WINDOW_SECONDS, return_attention_mask=True
    )
    extractor.save_pretrained(folder)


def tiny_tokenizer() -> Any:
    """A byte-level BPE tokenizer of at most 400 tokens; `<|im_end|>` ends an answer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["hello world, transcribe the audio to the user"] * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )


def _config(tokenizer: Any) -> Any:
    from transformers import Qwen2AudioConfig

    audio = {
        "model_type": "qwen2_audio_encoder",
        "d_model": 32,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 64,
        "num_mel_bins": 128,
        "max_source_positions": 50 * WINDOW_SECONDS,
    }
    text = {
        "model_type": "qwen2",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": MAX_POSITIONS,
        "rms_norm_eps": 1e-5,
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }
    audio_token = tokenizer.convert_tokens_to_ids("<|AUDIO|>")
    return Qwen2AudioConfig(audio_config=audio, text_config=text, audio_token_index=audio_token)


def _spread(model: Any) -> None:
    """Weights that keep the scale of their input: logits differ, and each token depends on the last one."""
    import torch

    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and "conv" not in name and "positions" not in name:
                weight.normal_(0, weight.shape[1] ** -0.5)
            elif name.endswith("bias"):
                weight.normal_(0, 0.02)
        model.get_input_embeddings().weight.normal_()
        model.get_output_embeddings().weight.mul_(2)
