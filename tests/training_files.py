"""What a training of WavLLM leaves: a checkpoint as fairseq saves it, and a SentencePiece model."""

from __future__ import annotations

import copy
import struct
from pathlib import Path
from typing import Any

import torch

from torch_wavllm import CONFIG, TorchWavLLM

WRAPPER = "_checkpoint_wrapped_module."


def save(path: Path, trained: TorchWavLLM, dtype: torch.dtype = torch.float32, **content: Any) -> Path:
    """As fairseq's trainer saves: weights beside settings and the state of the optimiser."""
    tensors = {
        name.replace("layers.1.", f"layers.1.{WRAPPER}"): each for name, each in trained.tensors().items()
    }
    state = {"args": None, "cfg": {}, "last_optimizer_state": None, "extra_state": {"epoch": 1}, **content}
    state.setdefault("model", {name: each.to(dtype) for name, each in tensors.items()})
    torch.save(state, path)
    return path


def write_training(folder: Path) -> None:
    """`final.pt` and `tokenizer.model` of a tiny model whose heads are as wide as in the released one."""
    config = copy.deepcopy(CONFIG)
    config["text_config"].update(hidden_size=128, num_attention_heads=1, num_key_value_heads=1, head_dim=128)
    config["whisper_config"].update(d_model=64, encoder_attention_heads=1)
    save(folder / "final.pt", TorchWavLLM(config))
    write_sentencepiece(folder / "tokenizer.model")


def write_sentencepiece(file: Path) -> None:
    """A SentencePiece model as LLaMA has it, written by hand: control tokens, bytes, letters, a few words."""
    letters = [*'\u2581abcdefghijklmnopqrstuvwxyzASTYNPECHI[]<>/,."!{}']
    words = ["th", "the", "\u2581the", "he", "el", "lo", "hello"]
    texts = [("<unk>", 2), ("<s>", 3), ("</s>", 3), *((f"<0x{i:02X}>", 6) for i in range(256))]
    texts += [(text, 1) for text in dict.fromkeys((*words, *letters))]
    pieces = b""
    for i, (text, kind) in enumerate(texts):
        score = _varint(2 << 3 | 5) + struct.pack("<f", -float(i))
        pieces += _field(1, _field(1, text.encode()) + score + _field(3, kind))
    file.write_bytes(
        pieces + _field(2, _field(3, 2) + _field(35, 1)) + _field(3, _field(3, 1) + _field(4, 0))
    )


def _varint(value: int) -> bytes:
    found = b""
    while value >= 0x80:
        found, value = found + bytes([value & 0x7F | 0x80]), value >> 7
    return found + bytes([value])


def _field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value
