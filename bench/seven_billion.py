"""A model of 7 billion numbers on this machine: build it in fewer bits, load it, let it answer 30 s of audio.

    python bench/seven_billion.py -o bench/results/seven_billion.json --folder SCRATCH

The checkpoint has the sizes of Qwen2-Audio-7B and random weights (16.8 GB in SCRATCH, kept there): what it
answers means nothing, times and memory do. Each build and each request is a process of its own. Memory is the
largest resident set, mapped pages that were touched among it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import quiet
from rich.console import Console
from rich.table import Table

from fastadasp.export.checkpoint.derived import Derived
from fastadasp.export.checkpoint.precision import BF16
from fastadasp.export.checkpoint.weights import FOLDER, Converted
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import load_profile
from fastadasp.runtime import PromptIds, SpeechLM
from fastadasp.runtime.environment import environment, peak_resident_bytes

DEMO = Path(__file__).parent.parent / "demo" / "model"
TEXT: dict[str, Any] = {
    "model_type": "qwen2",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 156032,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000,
    "tie_word_embeddings": False,
}
AUDIO = {
    "model_type": "qwen2_audio_encoder",
    "d_model": 1280,
    "encoder_layers": 32,
    "encoder_attention_heads": 20,
    "encoder_ffn_dim": 5120,
    "num_mel_bins": 128,
    "max_source_positions": 1500,
}
PROFILES = "full", "dense-constant-50"
FORMATS: dict[str, dict[str, Any]] = {
    "int4": {"quantize": "int4", "int4_block": 128},
    "int8": {"quantize": "int8"},
}
BEAMS = 1, 5
SECONDS, NEW_TOKENS = 30, 64
PROMPT = PromptIds(list(range(2, 12)), list(range(12, 32)))
NOISE = 1 << 26  # random numbers that all matrices are cut from, each at a place of its own


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("build/seven_billion.json"))
    parser.add_argument("--folder", type=Path, required=True, help="with room for 40 GB")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=tuple(FORMATS))
    parser.add_argument("--layers", type=int, default=TEXT["num_hidden_layers"], help="fewer for a trial")
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)  # what a process of its own does
    quiet.add_option(parser)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(PARTS[options.part[0]](options.folder, *options.part[1:])))
        return
    quiet.refuse_busy(parser, options)
    machine = environment(0)
    write_checkpoint(options.folder / "checkpoint", options.layers)
    result = {"layers": options.layers, "seconds": SECONDS, "new_tokens": NEW_TOKENS, **measure(options)}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({**result, "environment": asdict(machine)}, indent=1) + "\n")
    show(result)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every part in turn."""
    builds, requests = [], []
    for form in options.formats:
        builds.append(_process(options.folder, "build", form))
        for profile in PROFILES:
            requests += [_process(options.folder, "answer", form, profile, str(beams)) for beams in BEAMS]
    return {"builds": builds, "requests": requests}


def write_checkpoint(folder: Path, layers: int) -> None:
    """Settings, tokenizer and weights in bf16, unless they are there."""
    if (folder / "model.safetensors").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings(layers)))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(DEMO / name, folder / name)
    noise = np.random.default_rng(0).standard_normal(NOISE, np.float32)
    store = Converted(_tensors(noise, layers), BF16)
    (file,) = store.write(folder)
    (folder / file).rename(folder / "model.safetensors")
    (folder / FOLDER).rmdir()


def settings(layers: int) -> dict[str, Any]:
    """The config.json of a checkpoint of so many layers."""
    return {
        "model_type": "qwen2_audio",
        "architectures": ["Qwen2AudioForConditionalGeneration"],
        "audio_token_index": json.loads((DEMO / "config.json").read_text())["audio_token_index"],
        "audio_config": AUDIO,
        "text_config": {**TEXT, "num_hidden_layers": layers},
    }


def _tensors(noise: np.ndarray, layers: int) -> Iterator[Derived]:
    """Norms of ones, everything else small and random."""
    for i, (name, shape) in enumerate(shapes(layers)):
        if "norm" in name and name.endswith("weight"):
            yield Derived(name, shape, (), partial(np.ones, shape, np.float32))
        else:
            yield Derived(name, shape, (), partial(_random, noise, shape, i))


def _random(noise: np.ndarray, shape: tuple[int, ...], i: int) -> np.ndarray:
    start = 104729 * i % (NOISE // 4)
    return np.resize(noise[start:], shape) * np.float32(0.02)


def shapes(layers: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names on disk and shapes, from the model of transformers without its weights."""
    import torch
    from transformers import Qwen2AudioConfig, Qwen2AudioForConditionalGeneration

    config = Qwen2AudioConfig(audio_config=AUDIO, text_config={**TEXT, "num_hidden_layers": layers})
    with torch.device("meta"):
        model = Qwen2AudioForConditionalGeneration(config)
    for name, tensor in model.state_dict().items():
        yield name, tuple(tensor.shape)


def _build(folder: Path, form: str) -> dict[str, Any]:
    artifact = folder / f"artifact-{form}"
    shutil.rmtree(artifact, ignore_errors=True)
    begin = time.perf_counter()
    profiles = tuple(load_profile(name) for name in PROFILES)
    manifest = build(folder / "checkpoint", artifact, BuildOptions(profiles, **FORMATS[form]))
    seconds = time.perf_counter() - begin
    size = sum(record.size for record in manifest.files.values())
    return {"format": form, "seconds": seconds, "bytes": size, "peak_bytes": peak_resident_bytes()}


def _answer(folder: Path, form: str, profile: str, beams: str) -> dict[str, Any]:
    begin = time.perf_counter()
    model = SpeechLM.load(folder / f"artifact-{form}", profile)
    loaded = time.perf_counter() - begin
    audio = np.random.default_rng(0).standard_normal(16000 * SECONDS).astype(np.float32) * 0.1
    tokens = {"max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS, "num_beams": int(beams)}
    busy = time.process_time()
    found = model.generate(audio, PROMPT, **tokens)
    busy, latency = time.process_time() - busy, found.latency
    return {
        "format": form,
        "profile": profile,
        "beams": int(beams),
        "load_seconds": loaded,
        "encoder_ms": latency.stages["encoder"],
        "prefill_ms": latency.prefill_ms,
        "step_ms": latency.step_ms,
        "rtf": latency.rtf,
        "cpu_seconds": busy,
        "peak_bytes": peak_resident_bytes(),
    }


PARTS = {"build": _build, "answer": _answer}


def _process(folder: Path, *part: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--folder", str(folder), "--part", *part]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    print(found, file=sys.stderr, flush=True)
    return found


def show(result: dict[str, Any]) -> None:
    """Both tables."""
    for name, heads in (("builds", result["builds"]), ("requests", result["requests"])):
        table = Table(*heads[0], title=name, box=None)
        for row in heads:
            table.add_row(
                *(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values())
            )
        Console().print(table)


if __name__ == "__main__":
    main()
