"""SmolLM2 as a package brings it: weights of 4 bits made whole again, its tokenizer, and the prompt."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

WEIGHTS, TOKENIZER = "model.safetensors", "tokenizer.json"
RENAMED = {
    "<jupyter_start>": "<|audio_bos|>",
    "<jupyter_text>": "<|AUDIO|>",
    "<jupyter_code>": "<|audio_eos|>",
}
"""Tokens of notebooks, which no speech needs -> what they stand for here, so that the vocabulary stays."""
START, END, AUDIO_BOS, AUDIO, AUDIO_EOS = "<|im_start|>", "<|im_end|>", *RENAMED.values()
PROMPT = "Transcribe the speech."
BEFORE = f"{START}user\n{AUDIO_BOS}"
AFTER = f"{AUDIO_EOS}{PROMPT}{END}\n{START}assistant\n"


@dataclass(frozen=True)
class Sizes:
    """Sizes of a decoder of Llama's kind; the defaults are those of SmolLM2-135M."""

    num_layers: int = 30
    hidden_size: int = 576
    num_heads: int = 9
    num_kv_heads: int = 3
    head_dim: int = 64
    intermediate_size: int = 1536
    vocab_size: int = 49152
    norm_eps: float = 1e-5
    rope_theta: float = 100000.0
    max_positions: int = 8192


def unpack(gguf: Path, folder: Path) -> None:
    """Write weights in float16 and the tokenizer, unless they are there; wants the package gguf."""
    if (folder / WEIGHTS).is_file():
        return
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source, name = str(gguf.parent), gguf.name
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(source, gguf_file=name, dtype=torch.float32)
    folder.mkdir(parents=True, exist_ok=True)
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    (folder / TOKENIZER).write_text(json.dumps(renamed(content), ensure_ascii=False), "utf-8")
    weights = {key: value.half() for key, value in model.state_dict().items() if key != "lm_head.weight"}
    scratch = folder / f"{WEIGHTS}.part"
    save_file(weights, scratch)
    scratch.replace(folder / WEIGHTS)


def renamed(content: dict[str, Any]) -> dict[str, Any]:
    """A tokenizer.json in which the tokens of notebooks have the names of the audio's."""
    vocabulary = content["model"]["vocab"]
    content["model"]["vocab"] = {RENAMED.get(token, token): number for token, number in vocabulary.items()}
    for entry in content["added_tokens"]:
        entry["content"] = RENAMED.get(entry["content"], entry["content"])
    return content


class Language:
    """Tokens of prompts and transcripts."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.before, self.after = self._ids(BEFORE), self._ids(AFTER)
        (self.end,), (self.audio,) = self._ids(END), self._ids(AUDIO)

    @classmethod
    def of(cls, folder: Path) -> Language:
        """That of an unpacked model."""
        return cls(Tokenizer.from_file(str(folder / TOKENIZER)))

    def transcript(self, text: str) -> list[int]:
        """A transcript, each word with the blank before it: a word has the same tokens wherever it stands."""
        return self._ids(f" {text}")

    def text(self, tokens: list[int]) -> str:
        """What tokens say, without special ones."""
        found: str = self._tokenizer.decode(tokens)
        return found.strip()

    def _ids(self, text: str) -> list[int]:
        found: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return found


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """All weights in float32, by the names that transformers gives them."""
    return {name: value.float() for name, value in load_file(folder / WEIGHTS).items()}
