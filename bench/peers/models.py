"""What peers make their own files of: checkpoints, and a clip; each is written unless it is there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from random_checkpoint import COMMON, write_checkpoint

from peers.cases import DEMO, MODELS

ROOT = Path(__file__).parents[2]
RATE = 16000  # Hz
PREFIX = "language_model."


def write_inputs(folder: Path, model: str) -> None:
    """The checkpoint; of a decoder also that decoder alone, of the demo a clip."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, sizes = folder / "checkpoint", MODELS[model].sizes
    if model == DEMO:
        if not checkpoint.exists():
            checkpoint.unlink(missing_ok=True)  # a link into a clone that is gone
            checkpoint.symlink_to(ROOT / "demo" / "model")
        for seconds in MODELS[model].rounds:
            _write_clip(folder / f"{seconds}.wav", seconds)
    elif not (folder / "text" / "model.safetensors").is_file():
        write_checkpoint(checkpoint, sizes, MODELS[model].dtype)
        _write_text(checkpoint, folder / "text", sizes)


def _write_clip(path: Path, seconds: int) -> None:
    """The demo's clips one after another."""
    import soundfile

    from fastadasp.runtime.audio.read import load_audio

    spoken = [load_audio(clip, RATE).samples for clip in sorted((ROOT / "demo" / "clips").glob("*.flac"))]
    soundfile.write(path, np.resize(np.concatenate(spoken), seconds * RATE), RATE)


def _write_text(checkpoint: Path, folder: Path, sizes: Mapping[str, int]) -> None:
    """The decoder as a Qwen2 of its own, with a tokenizer that nobody asks but that loaders want."""
    import shutil

    from safetensors import safe_open
    from safetensors.torch import save_file
    from transformers import Qwen2Config

    folder.mkdir(exist_ok=True)
    settings = {**COMMON, **sizes, "eos_token_id": 1, "bos_token_id": 1}
    Qwen2Config(**settings, architectures=["Qwen2ForCausalLM"]).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(ROOT / "demo" / "model" / name, folder / name)
    with safe_open(checkpoint / "model.safetensors", "pt") as file:
        names = [name for name in file.keys() if name.startswith(PREFIX)]  # noqa: SIM118
        tensors = {name.removeprefix(PREFIX): file.get_tensor(name) for name in names}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
